//go:build !linux

package confine

// WarmInit makes no difference here: a sandbox has no process of its own to boot.
type WarmInit struct{}

// Prepare does nothing.
func (*WarmInit) Prepare(Policy) {}

// Close does nothing.
func (*WarmInit) Close() {}
