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
	n, err := e.CountReader(os.Stdin)
	text, _ := e.Decode(e.Encode(c.Text))
	fmt.Println(text, n, err)
}
