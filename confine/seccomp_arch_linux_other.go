//go:build linux && !amd64 && !arm64

package confine

func nativeSeccompArch() (seccompArch, error) { return seccompArch{}, errNoSeccompArch }
