package workspace

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// patchOp is what a patch does to one file.
type patchOp struct {
	op         string // add, update, delete
	path       string
	moveTo     string
	content    string // of an added file
	hunks      []hunk
	executable *bool
	// prefixed says that path and moveTo may carry the a/ or b/ of a diff that
	// git did not make.
	prefixed bool
}

const (
	beginPatch = "*** Begin Patch"
	endPatch   = "*** End Patch"
)

// parsePatch reads either grammar.
func parsePatch(patch string) ([]patchOp, error) {
	patch = withoutHeredoc(strings.ReplaceAll(patch, "\r\n", "\n"))
	if strings.HasPrefix(strings.TrimSpace(patch), beginPatch) {
		return parseEnvelope(patch)
	}
	if strings.Contains(patch, "\n--- ") || strings.HasPrefix(patch, "--- ") || strings.HasPrefix(patch, "diff --git ") || strings.Contains(patch, "\ndiff --git ") {
		return parseUnified(patch)
	}
	return nil, fail(codePatchFailed, "the patch starts neither with %q nor with a unified diff header; use one of the two forms", beginPatch)
}

// heredocStart is the first line of a patch sent as the command that would apply
// it in a shell.
var heredocStart = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\s*(?:(?:apply_patch|applypatch|patch(?: -p[01])?|git apply)\s+|cat\s+)?<<-?\s*(['"]?)([A-Za-z_]\w*)(['"]?)\s*(?:\|\s*(?:apply_patch|applypatch)\s*)?$`)
})

// withoutHeredoc takes the patch out of such a command; any other text stays as
// it is.
func withoutHeredoc(patch string) string {
	first, rest, _ := strings.Cut(strings.TrimLeft(patch, "\n"), "\n")
	m := heredocStart().FindStringSubmatch(first)
	if m == nil || m[1] != m[3] {
		return patch
	}
	body, ok := strings.CutSuffix(strings.TrimRight(rest, " \t\n"), "\n"+m[2])
	if !ok {
		return patch
	}
	return body + "\n"
}

// parseEnvelope reads the form between begin and end markers.
func parseEnvelope(patch string) ([]patchOp, error) {
	lines := strings.Split(strings.TrimSpace(patch), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], "\r")
	}
	bad := func(n int, format string, args ...any) error {
		return fail(codePatchFailed, "line %d of the patch: %s", n+1, fmt.Sprintf(format, args...))
	}
	if strings.TrimSpace(lines[0]) != beginPatch {
		return nil, bad(0, "expected %q alone on the line; put the first file on the next line", beginPatch)
	}
	last := len(lines) - 1
	if strings.TrimSpace(lines[last]) != endPatch {
		return nil, bad(last, "the patch does not end with %q; add that line", endPatch)
	}
	var ops []patchOp
	for i := 1; i < last; {
		l := lines[i]
		if strings.TrimSpace(l) == "" {
			i++
			continue
		}
		word, path, ok := strings.Cut(l, ": ")
		path = strings.TrimSpace(path)
		if !ok || path == "" {
			return nil, bad(i, "%q is not the start of a file; write \"*** Add File: \", \"*** Update File: \" or \"*** Delete File: \" with a path", shorten(l, 100))
		}
		op := patchOp{path: path}
		start := i
		i++
		switch word {
		case "*** Add File":
			op.op = "add"
			var b strings.Builder
			for ; i < last && !strings.HasPrefix(lines[i], "*** "); i++ {
				text, ok := strings.CutPrefix(lines[i], "+")
				if !ok {
					if strings.TrimSpace(lines[i]) == "" && blankUntilMarker(lines[i:last]) {
						continue
					}
					return nil, bad(i, "%q is in an added file; start each of its lines with \"+\"", shorten(lines[i], 100))
				}
				b.WriteString(text)
				b.WriteByte('\n')
			}
			if b.Len() == 0 {
				return nil, bad(start, "the added file %s has no lines; give at least one \"+\" line", quote(path))
			}
			op.content = b.String()
		case "*** Delete File":
			op.op = "delete"
		case "*** Update File":
			op.op = "update"
			if i < last {
				if to, ok := strings.CutPrefix(lines[i], "*** Move to: "); ok {
					if op.moveTo = strings.TrimSpace(to); op.moveTo == "" {
						return nil, bad(i, "\"*** Move to: \" has no path; give one")
					}
					i++
				}
			}
			var err error
			if op.hunks, i, err = parseEnvelopeHunks(lines, i, last, bad); err != nil {
				return nil, err
			}
			if len(op.hunks) == 0 && op.moveTo == "" {
				return nil, bad(start, "the update of %s has no hunk; give at least one change", quote(path))
			}
		default:
			return nil, bad(start, "%q is not the start of a file; write \"*** Add File: \", \"*** Update File: \" or \"*** Delete File: \"", shorten(l, 100))
		}
		ops = append(ops, op)
	}
	if len(ops) == 0 {
		return nil, fail(codePatchFailed, "the patch names no file; add a section between its markers")
	}
	return ops, nil
}

// blankUntilMarker forgives blank lines between sections.
func blankUntilMarker(lines []string) bool {
	for _, l := range lines {
		if strings.HasPrefix(l, "*** ") {
			return true
		}
		if strings.TrimSpace(l) != "" {
			return false
		}
	}
	return true
}

func parseEnvelopeHunks(lines []string, i, last int, bad func(int, string, ...any) error) ([]hunk, int, error) {
	var hunks []hunk
	for i < last {
		if strings.HasPrefix(lines[i], "*** ") && lines[i] != "*** End of File" || blankUntilMarker(lines[i:last]) {
			for i < last && !strings.HasPrefix(lines[i], "*** ") {
				i++
			}
			break
		}
		h := hunk{hint: -1}
		start := i
		for i < last && strings.HasPrefix(lines[i], "@@") {
			head := strings.TrimPrefix(lines[i], "@@")
			if at, ok := numericHeader(head); ok {
				h.hint = at // a unified header strayed in; its numbers still help
			} else if head = strings.TrimPrefix(head, " "); strings.TrimSpace(head) != "" {
				h.headers = append(h.headers, head)
			}
			i++
		}
		if len(hunks) > 0 && i == start {
			return nil, 0, bad(i, "%q is not part of a hunk; write \"@@\" or a line that starts with \" \", \"-\" or \"+\"", shorten(lines[i], 100))
		}
		changes := false
	body:
		for ; i < last; i++ {
			l := lines[i]
			switch {
			case l == "*** End of File":
				h.eof = true
				i++
				break body
			case strings.HasPrefix(l, "*** ") || strings.HasPrefix(l, "@@"):
				break body
			case l == "":
				if blankUntilMarker(lines[i:last]) {
					break body
				}
				h.lines = append(h.lines, hunkLine{' ', ""})
			case l[0] == ' ' || l[0] == '-' || l[0] == '+':
				changes = changes || l[0] != ' '
				h.lines = append(h.lines, hunkLine{l[0], l[1:]})
			default:
				return nil, 0, bad(i, "%q is not part of a hunk; start each of its lines with \" \", \"-\" or \"+\"", shorten(l, 100))
			}
		}
		if !changes {
			return nil, 0, bad(start, "the hunk changes nothing; give at least one \"-\" or \"+\" line")
		}
		hunks = append(hunks, h)
	}
	return hunks, i, nil
}

// numericHeader reads "-12,3 +12,4 @@".
func numericHeader(s string) (line int, ok bool) {
	f := strings.Fields(s)
	if len(f) < 3 || !strings.HasPrefix(f[0], "-") || !strings.HasPrefix(f[1], "+") || f[2] != "@@" {
		return 0, false
	}
	num, _, _ := strings.Cut(f[0][1:], ",")
	n, err := strconv.Atoi(num)
	if err != nil || n < 0 || n > 1<<30 {
		return 0, false
	}
	return max(0, n-1), true
}

// parseUnified reads a unified diff, from git or not.
func parseUnified(patch string) ([]patchOp, error) {
	if !strings.HasSuffix(patch, "\n") {
		patch += "\n"
	}
	files, _, err := gitdiff.Parse(strings.NewReader(patch))
	if err != nil {
		// Models miscount: try once more with the counts taken from the lines.
		again, _, err2 := gitdiff.Parse(strings.NewReader(recount(patch)))
		if err2 != nil {
			return nil, failCause(err, codePatchFailed, "the unified diff is not well formed (%s); correct it or use the %q form", strings.TrimPrefix(err.Error(), "gitdiff: "), beginPatch)
		}
		files = again
	}
	if len(files) == 0 {
		return nil, fail(codePatchFailed, "the unified diff changes no file; check its --- and +++ lines")
	}
	var ops []patchOp
	for _, g := range files {
		op, err := unifiedOp(g, !strings.Contains(patch, "diff --git "))
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

func unifiedOp(g *gitdiff.File, prefixed bool) (patchOp, error) {
	name := g.NewName
	if g.IsDelete {
		name = g.OldName
	}
	op := patchOp{op: "update", path: name, prefixed: prefixed}
	const typeBits = os.ModeType | 0o170000
	switch {
	case g.IsBinary:
		return op, fail(codeUnsupported, "the patch of %s is binary; write the file with write_file", quote(name))
	case g.NewMode&typeBits != 0 && g.NewMode&typeBits != 0o100000 || g.OldMode&typeBits != 0 && g.OldMode&typeBits != 0o100000:
		return op, fail(codeUnsupported, "the patch makes or changes %s as something other than a regular file; use a command for that", quote(name))
	case g.IsCopy:
		return op, fail(codePatchFailed, "the patch copies %s; add the new file as a whole instead", quote(g.OldName))
	case g.IsNew:
		op.op = "add"
	case g.IsDelete:
		op.op = "delete"
		return op, nil
	case g.OldName != g.NewName && g.OldName != "":
		op.path, op.moveTo = g.OldName, g.NewName
	}
	if g.NewMode != 0 {
		x := g.NewMode&0o111 != 0
		op.executable = &x
	}
	for _, frag := range g.TextFragments {
		h := hunk{hint: int(max(0, min(frag.OldPosition-1, 1<<30)))}
		if frag.OldLines == 0 {
			h.hint = int(max(0, min(frag.OldPosition, 1<<30))) // it goes after that line
		}
		for _, l := range frag.Lines {
			text, ended := strings.CutSuffix(l.Line, "\n")
			h.lines = append(h.lines, hunkLine{map[gitdiff.LineOp]byte{gitdiff.OpContext: ' ', gitdiff.OpDelete: '-', gitdiff.OpAdd: '+'}[l.Op], text})
			if !ended {
				h.eof = true
			}
			if l.Op != gitdiff.OpDelete {
				h.exact, h.noNewline = true, !ended
			}
		}
		op.hunks = append(op.hunks, h)
	}
	if op.op == "add" {
		var b strings.Builder
		for _, h := range op.hunks {
			for i, l := range h.lines {
				b.WriteString(l.text)
				if i < len(h.lines)-1 || !h.noNewline {
					b.WriteByte('\n')
				}
			}
		}
		op.content, op.hunks = b.String(), nil
	}
	return op, nil
}

// recount rewrites the numbers of every hunk header from the lines below it.
func recount(patch string) string {
	lines := strings.SplitAfter(patch, "\n")
	var out strings.Builder
	for i := 0; i < len(lines); i++ {
		l := lines[i]
		rest, isHunk := strings.CutPrefix(l, "@@ -")
		if !isHunk {
			out.WriteString(l)
			continue
		}
		start, _, _ := strings.Cut(rest, ",")
		start, _, _ = strings.Cut(start, " ")
		at, err := strconv.Atoi(start)
		if err != nil {
			out.WriteString(l)
			continue
		}
		var old, new int
		j := i + 1
		for ; j < len(lines) && lines[j] != ""; j++ {
			b := lines[j]
			if strings.HasPrefix(b, "@@ -") || strings.HasPrefix(b, "diff --git ") ||
				strings.HasPrefix(b, "--- ") && j+1 < len(lines) && strings.HasPrefix(lines[j+1], "+++ ") {
				break
			}
			if b == "\n" {
				lines[j] = " \n" // context whose blank was trimmed
				b = lines[j]
			}
			switch b[0] {
			case ' ':
				old, new = old+1, new+1
			case '-':
				old++
			case '+':
				new++
			}
		}
		fmt.Fprintf(&out, "@@ -%d,%d +%d,%d @@\n", at, old, at, new)
	}
	return out.String()
}
