// Command with is the smallest program that counts tokens. bench/tokens
// compares its size with that of ../without.
package main

import (
	"fmt"
	"os"

	"mcp-sandbox/tokens"
)

func main() {
	e, err := tokens.Get(os.Args[0])
	if err != nil {
		fmt.Println(err)
		return
	}
	c := e.Truncate(os.Args[0], 10, nil)
	fmt.Println(c.Text, e.Count(os.Args[0]))
}
