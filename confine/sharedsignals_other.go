//go:build !linux

package confine

func hostLandlockABI() int { return 0 }
