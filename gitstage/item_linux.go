package gitstage

// Item is one thing of a git directory that a session changed in a staged workspace,
// and that can be published.
type Item struct {
	// Name is the ref, the file, or the state of a merge or rebase.
	Name string
	// Text says in some words what happened, Lines more of it.
	Text  string
	Lines []string
	// Conflict says what somebody else did meanwhile, "" for nothing.
	Conflict string

	want string // identifies the session's side
}

// View is what waits in one git directory of a staged workspace.
type View struct {
	// New says that the session has made the directory.
	New   bool
	Items []Item
	// Seen identifies the items.
	Seen string
	// Stays says whether a changed file, or a removed directory, is none of the items'
	// and no by-product of git: such as hooks and settings that name programs.
	Stays func(path string, dir bool) bool
}
