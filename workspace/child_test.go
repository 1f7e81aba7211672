package workspace

// childRoles are what the test binary can be when a test starts it again.
func childRoles() map[string]func() int {
	return map[string]func() int{"writer": roleWriter, "full": roleFull, "limit": roleLimit}
}
