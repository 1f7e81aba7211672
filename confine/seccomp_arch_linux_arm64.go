package confine

func nativeSeccompArch() (seccompArch, error) { return seccompARM64, nil }
