//go:build !linux

package session

import "mcp-sandbox/stage"

// openStagedGit does nothing: an overlay needs Linux.
func (c *Config) openStagedGit(st *stage.Stage, root string) error { return nil }
