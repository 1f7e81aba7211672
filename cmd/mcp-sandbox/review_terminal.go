package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// reviewOnTerminal shows a review full-screen until the person ends it.
func reviewOnTerminal(ctx context.Context, r reviewer) error {
	cols, rows := windowSize()
	s, err := newReviewScreen(ctx, r, int(cols), int(rows))
	if err != nil {
		return err
	}
	if len(s.changes) == 0 {
		fmt.Println("nothing is staged")
		return nil
	}
	restore := rawTerminal(os.Stdin)
	_, _ = io.WriteString(os.Stdout, "\x1b[?1049h\x1b[?25l")
	defer func() {
		_, _ = io.WriteString(os.Stdout, "\x1b[?25h\x1b[?1049l")
		restore()
		fmt.Printf("%d applied, %d discarded, %d wait\n", s.done, s.dropped, len(s.changes))
		printUndo(os.Stdout, r.Info().Root, s.snapshot, s.done+len(r.Unfinished()))
	}()
	keys := make(chan string)
	go readKeys(os.Stdin, keys)
	sizes := make(chan os.Signal, 1)
	signal.Notify(sizes, syscall.SIGWINCH)
	defer signal.Stop(sizes)
	for !s.over {
		s.draw(os.Stdout)
		select {
		case <-ctx.Done():
			return nil
		case <-sizes:
			cols, rows := windowSize()
			s.cols, s.rows = int(cols), int(rows)
		case k, ok := <-keys:
			if !ok {
				return nil
			}
			s.key(k)
		}
	}
	return nil
}

// readKeys sends each key that is typed; a terminal sends what belongs to one at
// once.
func readKeys(in io.Reader, keys chan<- string) {
	defer close(keys)
	buf := make([]byte, 64)
	for {
		n, err := in.Read(buf)
		if err != nil {
			return
		}
		for rest := string(buf[:n]); rest != ""; {
			k := rest[:1]
			for _, seq := range []string{keyUp, keyDown, keyPageUp, keyPageDwn, keyBackTab} {
				if strings.HasPrefix(rest, seq) {
					k = seq
				}
			}
			if k == "\x1b" {
				k, rest = rest, ""
			}
			keys <- k
			rest = strings.TrimPrefix(rest, k)
		}
	}
}
