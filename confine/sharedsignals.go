package confine

import "mcp-sandbox/sandbox"

// SharesSignals says whether sessions at level can signal each other's commands,
// and the server, where they have one uid: without confinement, and at the
// landlock level before Linux 6.12 (Landlock ABI 6), whose domains do not keep
// signals inside.
func SharesSignals(level sandbox.Level) bool { return sharesSignals(level, hostLandlockABI()) }

func sharesSignals(level sandbox.Level, abi int) bool {
	return level == sandbox.LevelNone || level == sandbox.LevelLandlock && abi < 6
}
