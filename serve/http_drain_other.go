//go:build !linux

package serve

// refuseNew is Linux's alone: elsewhere a moment stays in which a connection is lost.
func refuseNew(waiting) {}
