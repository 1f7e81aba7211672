package confine

func nativeSeccompArch() (seccompArch, error) { return seccompAMD64, nil }
