package main

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// TestDocLinks: every link of a page to a file of the repository leads to one, and every
// anchor to a heading.
func TestDocLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code := regexp.MustCompile("`[^`]*`")
	anchors := map[string]map[string]bool{}
	for _, page := range append(docPages(t), "CHANGELOG.md") {
		fenced := false
		for i, line := range strings.Split(string(repoFile(t, page)), "\n") {
			if docFence.MatchString(line) {
				fenced = !fenced
			}
			if fenced {
				continue
			}
			for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(line, ""), -1) {
				to, anchor, _ := strings.Cut(m[1], "#")
				if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
					continue
				}
				file := page
				if to != "" {
					to, _ = url.PathUnescape(to)
					file = path.Join(path.Dir(page), to)
				}
				if _, err := os.Stat(filepath.Join("..", "..", file)); err != nil {
					t.Errorf("%s:%d: %s leads to no file", page, i+1, m[1])
					continue
				}
				if anchor == "" {
					continue
				}
				if anchors[file] == nil {
					anchors[file] = headings(string(repoFile(t, file)))
				}
				if !anchors[file][anchor] {
					t.Errorf("%s:%d: %s leads to no heading", page, i+1, m[1])
				}
			}
		}
	}
}

// headings are the anchors of a page's headings, as GitHub names them: lower case, spaces
// as dashes, without punctuation.
func headings(text string) map[string]bool {
	out := map[string]bool{}
	fenced := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if docFence.MatchString(line) {
			fenced = !fenced
		}
		title := strings.TrimLeft(line, "#")
		if fenced || title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		out[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title))] = true
	}
	return out
}
