package ptyproctest

func exitCases() []contract     { return nil }
func outputCases() []contract   { return nil }
func stdinCases() []contract    { return nil }
func treeCases() []contract     { return nil }
func tableCases() []contract    { return nil }
func terminalCases() []contract { return nil }
