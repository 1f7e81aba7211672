package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mcp-sandbox/sandbox"
)

// hostileIgnore is a workspace whose ignore file asks for more than an hour of
// comparing: names times rules that each look at the whole path.
func hostileIgnore(t *testing.T, dir string, names, rules int) {
	t.Helper()
	var b strings.Builder
	for i := range rules {
		fmt.Fprintf(&b, "**/*a*b*c*d*e*%d*/**/*z\n", i)
	}
	if err := os.WriteFile(filepath.Join(dir, ".gitignore"), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	for i := range names {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("aabbccddee-%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
}

// What ignore rules cost is bounded, and the refusal says what to do instead.
func TestIgnoreRulesAreBounded(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	defer func(n int) { maxIgnoreWork = n }(maxIgnoreWork)
	maxIgnoreWork = 1 << 20
	hostileIgnore(t, dir, 2000, 3000)
	ctx := context.Background()
	for name, call := range map[string]func(all bool) error{
		"find": func(all bool) error {
			_, err := f.Find(ctx, FindRequest{Pattern: "*-7", All: all})
			return err
		},
		"search": func(all bool) error {
			_, err := f.Search(ctx, SearchRequest{Pattern: "x", All: all})
			return err
		},
	} {
		var e *sandbox.Error
		if err := call(false); !errors.As(err, &e) || e.Code() != codeLimit || !strings.Contains(e.Error(), "all to true") {
			t.Errorf("%s: %v", name, err)
		}
		if err := call(true); err != nil {
			t.Errorf("%s, all: %v", name, err)
		}
	}
}

// cancelled says whether call returns with its context's end, long before it
// would have ended by itself.
func cancelled(t *testing.T, name string, call func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- call(ctx) }()
	time.AfterFunc(5*time.Millisecond, cancel)
	select {
	case err := <-done:
		if err == nil {
			t.Errorf("%s ended before it was cancelled, so the test proves nothing", name)
		} else if ctx.Err() == nil {
			t.Errorf("%s failed by itself: %v", name, err)
		}
	case <-time.After(2 * time.Minute):
		t.Errorf("%s goes on two minutes after it was cancelled", name)
	}
}

// Every loop over names, lines and rules, and every match of a long line, ends
// with its call.
func TestWorkIsCancelled(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	line := strings.Repeat("a", 3<<20) + "\n"
	if err := os.WriteFile(filepath.Join(dir, "long"), []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lines"), []byte(strings.Repeat(strings.Repeat("a", 300)+"\n", 50000)), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"long", "lines", "."} {
		cancelled(t, "search in "+path, func(ctx context.Context) error {
			_, err := f.Search(ctx, SearchRequest{Pattern: "(a?){900}a{900}b", Path: path})
			return err
		})
	}
	work := newIgnoreWork(canceledContext())
	rules := &ignoreRules{rules: parseIgnore(strings.NewReader(strings.Repeat("**/*a*b/**/*z\n", 9000)), nil, true)}
	if _, err := rules.judge([]string{"x", "y"}, false, work); !errors.Is(err, context.Canceled) {
		t.Errorf("rules: %v", err)
	}
}

func canceledContext() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// A pattern with more ways to read it than anyone means is refused, before it is
// tried on a name.
func TestHostilePatterns(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	ctx := context.Background()
	for _, p := range []string{strings.Repeat("{a,a}", 100), strings.Repeat("{a,", 500) + strings.Repeat("}", 500) + strings.Repeat("{a,{b,c}}", 20), strings.Repeat("{a,b,c,d}", 7)} {
		_, err := f.Find(ctx, FindRequest{Pattern: p})
		var e *sandbox.Error
		if !errors.As(err, &e) || e.Code() != codeInvalid {
			t.Errorf("%.40s...: %v", p, err)
		}
	}
	for _, p := range []string{"**/*.{go,md,txt}", "{a,b}/{c,d}/*.{x,y}", `\{a,b\}`, "a,b,c"} {
		if _, err := f.Find(ctx, FindRequest{Pattern: p}); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	_, err := f.Search(ctx, SearchRequest{Pattern: "((a{30}){30}){30}"})
	var e *sandbox.Error
	if !errors.As(err, &e) || e.Code() != codeInvalid {
		t.Errorf("a huge program: %v", err)
	}
	// The long way to match gives the same place as the short one.
	if err := os.WriteFile(filepath.Join(dir, "wide"), []byte(strings.Repeat("é", 1<<20)+"needle"+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	res, err := f.Search(ctx, SearchRequest{Pattern: "ne(e|x{3}|[d-f]{40})dle", Path: "wide"})
	if err != nil || res.Matches != 1 || res.Files[0].Lines[0].Column != 2<<20+1 {
		t.Errorf("%v, %+v", err, res.Matches)
	}
}

// Workspaces share the decoders of the server, and a waiting call can be
// cancelled.
func TestDecodersAreShared(t *testing.T) {
	for range cap(decoders) {
		decoders <- struct{}{}
	}
	defer func() {
		for range cap(decoders) {
			<-decoders
		}
	}()
	f, dir, _ := newFS(t, Options{})
	var b bytes.Buffer
	if err := png.Encode(&b, picture(4000, 10, false)); err != nil {
		t.Fatal(err)
	}
	put(t, dir, map[string]string{"p.png": b.String()})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := f.ReadFile(ctx, ReadRequest{Path: "p.png"})
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("decoded although no decoder was free: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("no error")
	}
	if len(f.decode) != 0 {
		t.Error("the workspace's own slot is still taken")
	}
}
