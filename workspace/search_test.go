package workspace

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// flat shows a result like grep: path:line:text, context with dashes.
func flat(r SearchResult) []string {
	var out []string
	for _, f := range r.Files {
		for _, l := range f.Lines {
			sep := "-"
			if l.Match {
				sep = ":"
			}
			out = append(out, fmt.Sprintf("%s%s%d%s%s", f.Path, sep, l.Line, sep, l.Text))
		}
	}
	return out
}

func TestSearch(t *testing.T) {
	f, dir, outside := newFS(t, Options{})
	put(t, dir, map[string]string{
		"a.go": "package a\n\nfunc Foo() {}\nfunc Bar() {}\n", "b.txt": "foo\r\nFOO\r\n", "sub/c.go": "x\nfoo 1\ny\nfoo 2\nz\nz\nfoo 3",
		"bin": "foo\x00foo\n", ".git/config": "foo\n", ".github/w.yml": "foo: hidden\n", ".gitignore": "ign/\n*.log\n!keep.log\n",
		"ign/x": "foo\n", "x.log": "foo\n", "keep.log": "foo kept\n", "link": "-> a.go", "out": "-> " + outside + "/canary", "dirlink": "-> sub",
		"u16": "\xff\xfef\x00o\x00o\x00\n\x00", "latin": "caf\xe9 foo\n", "empty": "", "mark": "\xef\xbb\xbfstart x\n",
		"kelvin": "2\u212A unit\n", "long": strings.Repeat("x", 3000) + "needle" + strings.Repeat("y", 3000) + "\n",
	})
	for _, tc := range []struct {
		name string
		req  SearchRequest
		want []string
		code string
	}{
		{name: "literal", req: SearchRequest{Pattern: "Foo"}, want: []string{"a.go:3:func Foo() {}"}},
		{name: "regexp", req: SearchRequest{Pattern: `^func \w+\(`, Glob: "*.go"}, want: []string{"a.go:3:func Foo() {}", "a.go:4:func Bar() {}"}},
		{name: "all names", req: SearchRequest{Pattern: "foo"}, want: []string{".github/w.yml:1:foo: hidden", "b.txt:1:foo", "keep.log:1:foo kept", "latin:1:café foo", "sub/c.go:2:foo 1", "sub/c.go:4:foo 2", "sub/c.go:7:foo 3", "u16:1:foo"}},
		{name: "ignore case", req: SearchRequest{Pattern: "foo", IgnoreCase: true, Glob: "*.{txt,go}", Path: "."}, want: []string{"a.go:3:func Foo() {}", "b.txt:1:foo", "b.txt:2:FOO", "sub/c.go:2:foo 1", "sub/c.go:4:foo 2", "sub/c.go:7:foo 3"}},
		{name: "behind a byte order mark", req: SearchRequest{Pattern: "^start"}, want: []string{"mark:1:start x"}},
		{name: "context", req: SearchRequest{Pattern: "foo", Path: "sub", Context: 1}, want: []string{"sub/c.go-1-x", "sub/c.go:2:foo 1", "sub/c.go-3-y", "sub/c.go:4:foo 2", "sub/c.go-5-z", "sub/c.go-6-z", "sub/c.go:7:foo 3"}},
		{name: "context wide", req: SearchRequest{Pattern: "foo 2", Path: "sub", Context: 20}, want: []string{"sub/c.go-1-x", "sub/c.go-2-foo 1", "sub/c.go-3-y", "sub/c.go:4:foo 2", "sub/c.go-5-z", "sub/c.go-6-z", "sub/c.go-7-foo 3"}},
		{name: "one file", req: SearchRequest{Pattern: "foo [13]", Path: "sub/c.go"}, want: []string{"sub/c.go:2:foo 1", "sub/c.go:7:foo 3"}},
		{name: "through link", req: SearchRequest{Pattern: "foo 1", Path: "dirlink"}, want: []string{"sub/c.go:2:foo 1"}},
		{name: "glob path", req: SearchRequest{Pattern: "foo", Glob: "sub/**"}, want: []string{"sub/c.go:2:foo 1", "sub/c.go:4:foo 2", "sub/c.go:7:foo 3"}},
		{name: "glob not", req: SearchRequest{Pattern: "(?i)foo", Glob: "!*.go", Path: "sub"}},
		{name: "crlf end", req: SearchRequest{Pattern: "foo$", Path: "b.txt"}, want: []string{"b.txt:1:foo"}},
		{name: "all", req: SearchRequest{Pattern: "foo", Glob: "*.log", All: true}, want: []string{"keep.log:1:foo kept", "x.log:1:foo"}},
		{name: "git", req: SearchRequest{Pattern: "foo", Path: ".git"}, want: []string{".git/config:1:foo"}},
		{name: "plain text", req: SearchRequest{Pattern: "Foo()", Literal: true}, want: []string{"a.go:3:func Foo() {}"}},
		{name: "alternatives", req: SearchRequest{Pattern: "foo 1|Bar"}, want: []string{"a.go:4:func Bar() {}", "sub/c.go:2:foo 1"}},
		{name: "kelvin", req: SearchRequest{Pattern: "2k", IgnoreCase: true}, want: []string{"kelvin:1:2\u212A unit"}},
		{name: "empty match", req: SearchRequest{Pattern: "^$", Path: "a.go"}, want: []string{"a.go:2:"}},
		{name: "dash pattern", req: SearchRequest{Pattern: "--pre=sh"}}, // AC-17
		{name: "long line", req: SearchRequest{Pattern: "needle"}, want: []string{"long:1:..." + strings.Repeat("x", 125) + "needle" + strings.Repeat("y", 369) + "..."}},
		{name: "max", req: SearchRequest{Pattern: "foo", Path: "sub", MaxResults: 2, Context: 1}, want: []string{"sub/c.go-1-x", "sub/c.go:2:foo 1", "sub/c.go-3-y", "sub/c.go:4:foo 2", "sub/c.go-5-z"}},
		{name: "binary file", req: SearchRequest{Pattern: "foo", Path: "bin"}, code: codeUnsupported},
		{name: "bad pattern", req: SearchRequest{Pattern: "foo("}, code: codeInvalid},
		{name: "empty pattern", req: SearchRequest{}, code: codeInvalid},
		{name: "bad glob", req: SearchRequest{Pattern: "x", Glob: "[a"}, code: codeInvalid},
		{name: "outside", req: SearchRequest{Pattern: "canary", Path: "../outside"}, code: codeOutside},
		{name: "outside link", req: SearchRequest{Pattern: "canary", Path: "out"}, code: codeOutside},
		{name: "canary not reached", req: SearchRequest{Pattern: "canary", All: true}},
		{name: "missing", req: SearchRequest{Pattern: "x", Path: "none"}, code: codeNotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, err := f.Search(ctx, tc.req)
			wantCode(t, err, tc.code)
			if got := flat(res); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
			if res.Truncated != (tc.name == "max") {
				t.Errorf("truncated is %v", res.Truncated)
			}
			for _, fm := range res.Files {
				for _, l := range fm.Lines {
					if l.Match != (l.Column > 0) {
						t.Errorf("line %d: match %v column %d", l.Line, l.Match, l.Column)
					}
				}
			}
		})
	}
}

// A file of many windows gives the same lines as matching it line by line.
func TestSearchWindows(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	var b strings.Builder
	for i := 1; b.Len() < 5*searchWindow/2; i++ {
		fmt.Fprintf(&b, "line %d %s\n", i, strings.Repeat("padding ", i%40))
		if i%17 == 0 {
			b.WriteString("\n")
		}
	}
	put(t, dir, map[string]string{"big": b.String()})
	lines := strings.Split(b.String(), "\n")
	for _, pattern := range []string{`9999 `, `line \d*777\d `, `^$`} {
		re := regexp.MustCompile(pattern)
		for _, around := range []int{0, 3} {
			res, err := f.Search(ctx, SearchRequest{Pattern: pattern, Context: around, MaxResults: 60})
			wantCode(t, err, "")
			show := map[int]bool{}
			n := 0
			for i, l := range lines[:len(lines)-1] {
				if n < 60 && re.MatchString(l) {
					n++
					for j := max(0, i-around); j <= min(len(lines)-2, i+around); j++ {
						show[j+1] = show[j+1] || j == i
					}
				}
			}
			if len(res.Files) != 1 || res.Matches != n || len(res.Files[0].Lines) != len(show) {
				t.Fatalf("%s: %d matches in %d lines, want %d in %d", pattern, res.Matches, len(res.Files[0].Lines), n, len(show))
			}
			for _, l := range res.Files[0].Lines {
				if m, ok := show[l.Line]; !ok || m != l.Match || l.Text != lines[l.Line-1] {
					t.Fatalf("%s: line %d is %q (match %v), want %q (%v, %v)", pattern, l.Line, l.Text, l.Match, lines[l.Line-1], m, ok)
				}
			}
		}
	}
}

func TestSearchLongestLine(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"one": strings.Repeat("x", 2*searchWindow+10) + "needle\nsecond needle\n"})
	res, err := f.Search(ctx, SearchRequest{Pattern: "needle", Context: 2})
	wantCode(t, err, "")
	if res.Matches != 2 || res.Files[0].Lines[len(res.Files[0].Lines)-1].Text != "second needle" {
		t.Errorf("got %+v", res)
	}
}

// The prefilter must never lose a match.
func TestPrefilterAgrees(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	text := "alpha beta\nAlphaBET\nks KS \u017f\u212a\ncolour color\nabcabc\n\tint x = 10;\nz\nfoo.bar(baz)\nüber ÜBER\n"
	put(t, dir, map[string]string{"t": text})
	for _, p := range []string{
		"alpha", "(?i)ALPHA", "colou?r", "a(b|c)+d?", "(foo|bar)\\.", "(?i)ks", "(?i)über", "[ab]c", "x{2}", "x{0,2}", "(?i)(alpha|beta)", ".*", "^z$",
		"(abc){2}", "\\bint\\b", "[[:upper:]]", "(?i)s", "foo|", "(?:a|b|c|d|e)lpha", "(?i)[k]", "\\Qfoo.bar(\\E", "i*nt", "(?i:alpha)BET|zz",
	} {
		re := regexp.MustCompile(p)
		want := 0
		for _, l := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
			if re.MatchString(l) {
				want++
			}
		}
		res, err := f.Search(ctx, SearchRequest{Pattern: p})
		wantCode(t, err, "")
		if res.Matches != want {
			t.Errorf("%s: %d matches, want %d", p, res.Matches, want)
		}
	}
}

func TestSearchCancelled(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	for i := range 300 {
		put(t, dir, map[string]string{fmt.Sprintf("d%d/f", i): "text\n"})
	}
	c, cancel := context.WithCancel(ctx)
	cancel()
	_, err := f.Search(c, SearchRequest{Pattern: "text"})
	wantCode(t, err, codeCancelled)
	_, err = f.Find(c, FindRequest{Pattern: "*"})
	wantCode(t, err, codeCancelled)
	res, err := f.Search(ctx, SearchRequest{Pattern: "text", MaxResults: 3})
	wantCode(t, err, "")
	if res.Matches != 3 || !res.Truncated {
		t.Errorf("%d matches, truncated %v", res.Matches, res.Truncated)
	}
}

func TestFind(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{
		"a.go": "", "sub/b.go": "", "sub/deep/c.go": "", "sub/d.txt": "", ".hidden/e.go": "", "node_modules/x.go": "", ".gitignore": "node_modules\n",
		"sub/.gitignore": "/deep\n", ".git/f.go": "", "l.go": "-> a.go", "skip/g.go": "", ".ignore": "skip\n", "loop": "-> .",
	})
	for i, n := range []string{"sub/b.go", ".hidden/e.go", "a.go", "sub/d.txt", "sub/deep/c.go", "node_modules/x.go"} {
		at := time.Unix(int64(1000-i), 0)
		os.Chtimes(filepath.Join(dir, n), at, at)
	}
	for _, tc := range []struct {
		req  FindRequest
		want string
		code string
	}{
		{req: FindRequest{Pattern: "*.go"}, want: "l.go sub/b.go .hidden/e.go a.go"},
		{req: FindRequest{Pattern: "**/*.go"}, want: "l.go sub/b.go .hidden/e.go a.go"},
		{req: FindRequest{Pattern: "sub/*.go"}, want: "sub/b.go"},
		{req: FindRequest{Pattern: "./sub/**"}, want: "sub/.gitignore sub/b.go sub/d.txt"},
		{req: FindRequest{Pattern: "*.go", Path: "sub", All: true}, want: "sub/b.go sub/deep/c.go"},
		{req: FindRequest{Pattern: "*.go", Path: "sub/deep"}, want: "sub/deep/c.go"},
		{req: FindRequest{Pattern: "s*/"}, want: "sub"},
		{req: FindRequest{Pattern: "{a,b}.go"}, want: "sub/b.go a.go"},
		{req: FindRequest{Pattern: "*.go", Max: 2}, want: "l.go sub/b.go"},
		{req: FindRequest{Pattern: "*.nothing"}},
		{req: FindRequest{Pattern: ""}, code: codeInvalid},
		{req: FindRequest{Pattern: "[x"}, code: codeInvalid},
		{req: FindRequest{Pattern: "/etc/*"}, code: codeInvalid},
		{req: FindRequest{Pattern: "../outside/*"}, code: codeOutside},
		{req: FindRequest{Pattern: "none/*.go"}, code: codeNotFound},
		{req: FindRequest{Pattern: "*", Path: "a.go"}, code: codeNotDirectory},
	} {
		res, err := f.Find(ctx, tc.req)
		wantCode(t, err, tc.code)
		var got []string
		for _, e := range res.Entries {
			got = append(got, e.Path)
		}
		if s := strings.Join(got, " "); tc.req.Pattern == "./sub/**" {
			if len(got) != 3 {
				t.Errorf("%+v: got %s", tc.req, s)
			}
		} else if s != tc.want {
			t.Errorf("%+v: got %q, want %q", tc.req, s, tc.want)
		}
		if res.Truncated != (tc.req.Max == 2) {
			t.Errorf("%+v: truncated %v", tc.req, res.Truncated)
		}
	}
}
