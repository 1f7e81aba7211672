//go:build !linux

// Package treecopy measures trees below descriptors. It copies them on Linux alone:
// elsewhere there are no overlays.
package treecopy
