//go:build !linux

package confine

// Standby makes no difference here: a sandbox has no process of its own to boot.
type Standby struct{}

// Prepare does nothing.
func (*Standby) Prepare(Policy) {}

// Close does nothing.
func (*Standby) Close() {}
