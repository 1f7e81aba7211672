package session

// describeDepth is how deep a session's own description goes.
const describeDepth = 2

// Describe draws the manifest the session was made with, "" without one.
func (s *Session) Describe() string {
	m := s.config.Manifest
	if m == nil || len(m.Entries)+len(m.Grants) == 0 {
		return ""
	}
	text, err := m.Describe(s.root, describeDepth)
	if err != nil {
		return ""
	}
	return text
}
