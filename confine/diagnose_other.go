//go:build !linux

package confine

func landlockFixed() string { return "" }

func seccompDetail() string { return "" }
