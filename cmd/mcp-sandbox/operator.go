package main

import (
	"io"
	"os"

	"mcp-sandbox/sandbox"
)

// operator is where the commands for the operator print. Files, names and labels
// of a workspace are the model's to choose, and a terminal takes orders from what
// it shows: to set its title, to fill the clipboard, to hide or reorder lines
// (CVE-2003-0063 and its like). So what is not text is escaped where a terminal
// reads, and left as it is for a file or a pipe; a review escapes it everywhere.
func operator(f *os.File) io.Writer {
	if isTerminal(f) {
		return &escaper{f}
	}
	return f
}

// escaper writes text with everything a terminal could take for an order shown
// as \x1b or \u202e. Each Write holds whole characters.
type escaper struct{ w io.Writer }

func (e *escaper) Write(p []byte) (int, error) {
	if _, err := io.WriteString(e.w, sandbox.Spelled(string(p), "\n\t")); err != nil {
		return 0, err
	}
	return len(p), nil
}
