package library_test

import (
	"context"
	"fmt"
	"time"

	"mcp-sandbox/library"
	"mcp-sandbox/session"
)

// A session in twenty lines: a command, a file that it wrote, and a key that is not
// there.
func Example() {
	ctx := context.Background()
	box, err := library.New(ctx, library.Options{Session: session.Config{Network: "none"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer box.Close()
	s, err := box.Session(ctx, "me")
	if err != nil {
		fmt.Println(err)
		return
	}
	res, err := s.Exec(ctx, session.ExecRequest{
		Cmd:   "echo hello > greeting; cat greeting; cat /root/.ssh/id_rsa 2>/dev/null || echo no key",
		Yield: 10 * time.Second,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(string(res.Output))
	f, err := s.Files().ReadFile(ctx, session.ReadRequest{Path: "greeting"})
	fmt.Print(f.Text, err)
	// Output:
	// hello
	// no key
	// hello
	// <nil>
}
