// Command library runs a command in a session of its own, or with an address serves
// sessions over HTTP: what docs/library.md shows, as a program.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"mcp-sandbox/library"
	"mcp-sandbox/serve"
	"mcp-sandbox/session"
	"mcp-sandbox/tools"
)

func main() {
	ctx := context.Background()
	box, err := library.New(ctx, library.Options{
		Session: session.Config{Network: "allow"},
		Network: &library.Rules{Presets: []string{"go"}},
		Tools:   tools.Options{Remote: len(os.Args) > 1},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer box.Close()
	if len(os.Args) > 1 {
		h, err := box.Handler(serve.Options{})
		if err == nil {
			err = http.ListenAndServe(os.Args[1], h)
		}
		log.Println(err)
		return
	}
	s, err := box.Session(ctx, "me")
	if err != nil {
		log.Println(err)
		return
	}
	res, err := s.Exec(ctx, session.ExecRequest{Cmd: "id -un; ls -A; cat ~/.ssh/id_rsa", Yield: 10 * time.Second})
	if err != nil {
		log.Println(err)
		return
	}
	fmt.Print(string(res.Output))
}
