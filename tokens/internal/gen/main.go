// Command gen writes the tables that package tokens embeds.
//
// It reads the published ranks out of the tiktoken-go-loader module, which
// carries them inside itself, so it needs no network:
//
//	go generate ./tokens
//
// For every vocabulary it writes data/NAME.bin, and once, from the Unicode
// tables of the running Go toolchain, data/classes.bin. The formats are
// described in package tokens, next to the code that reads them; the tests of
// that package prove every table equal to the published ranks.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"

	loader "github.com/pkoukk/tiktoken-go-loader"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("gen: ")
	dir := flag.String("o", "data", "directory the tables are written to")
	flag.Parse()
	if err := run(*dir); err != nil {
		log.Fatal(err)
	}
}

func run(dir string) error {
	for _, name := range []string{"o200k_base", "cl100k_base"} {
		ranks, err := loader.NewOfflineLoader().LoadTiktokenBpe(name + ".tiktoken")
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		v, err := newVocab(ranks)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		data, err := v.marshal()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Printf("%-12s %7d tokens, %d bytes\n",
			name, len(ranks), len(data))
		if err := os.WriteFile(filepath.Join(dir, name+".bin"), data, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "classes.bin"), classTable(), 0o644)
}
