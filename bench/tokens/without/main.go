// Command without is ../with without package tokens.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"
)

func main() {
	pool := sync.Pool{New: func() any { return new(strings.Builder) }}
	b := pool.Get().(*strings.Builder)
	n, err := io.Copy(b, os.Stdin)
	fmt.Println(utf8.ValidString(os.Args[0]), n, err)
}
