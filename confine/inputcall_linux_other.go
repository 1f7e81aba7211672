//go:build linux && !amd64

package confine

// The newer architectures have these calls only in another form.
const (
	sysPoll = -1 - iota
	sysSelect
	sysEpollWait
	sysPause
)
