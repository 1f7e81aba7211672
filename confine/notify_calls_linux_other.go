//go:build linux && !amd64

package confine

// olderCalls are none here, see amd64's.
var olderCalls [0]supervisedCall
