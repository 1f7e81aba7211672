package workspace

import (
	"context"
	"fmt"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"mcp-sandbox/sandbox"
)

// EditRequest is the input of EditFile. OldText must occur in the file exactly
// as given, once unless ReplaceAll. In a file with CRLF line ends, text given
// with plain line ends matches and is written with CRLF.
type EditRequest struct {
	Path       string
	OldText    string
	NewText    string
	ReplaceAll bool
	// IfUnchanged is as in WriteRequest.
	IfUnchanged string
	// Force edits a file whose mode lets nobody write.
	Force bool
}

// EditResult tells what EditFile did.
type EditResult struct {
	Path         string
	Replacements int
	Diff         string // unified, three lines of context, cut at 64 KiB
	HardLinks    int    // as in WriteResult
	Note         string
	Version      string // as in WriteResult
}

// maxDiff bounds the diff that is returned.
const maxDiff = 64 << 10

// EditFile replaces text in a file, keeping encoding, byte order mark, line
// ends, mode and owner. Errors: edit_not_found with the nearest lines,
// edit_not_unique with the places.
func (f *FS) EditFile(ctx context.Context, req EditRequest) (EditResult, error) {
	switch {
	case req.OldText == "":
		return EditResult{}, fail(codeInvalid, "old_text is empty; give the text to replace or use write_file for a new file")
	case req.OldText == req.NewText:
		return EditResult{}, fail(codeInvalid, "old_text and new_text are the same; give the changed text")
	}
	var res EditResult
	err := f.at(req.Path, walkOptions{follow: true, write: true}, func(p *resolved) error {
		done, err := takeTurn(ctx, p.fd, req.Path)
		if err != nil {
			return err
		}
		defer done()
		d, err := loadDocument(ctx, p)
		if err != nil {
			return err
		}
		if req.IfUnchanged != "" {
			now, err := d.version()
			if err != nil {
				return err
			}
			if err := sameVersion(req.Path, now, req.IfUnchanged); err != nil {
				return err
			}
		}
		if err := writable(&d.st, req.Path, req.Force); err != nil {
			return err
		}
		old, new := req.OldText, req.NewText
		ends := crlf(d.text)
		if ends && !strings.Contains(old, "\r") {
			old, new = toCRLF(old), toCRLF(new)
		}
		n := strings.Count(d.text, old)
		if n == 0 && ends && old != req.OldText {
			// Mixed line ends: the text may be there as it was given.
			old, new = req.OldText, req.NewText
			n = strings.Count(d.text, old)
		}
		switch {
		case n == 0:
			return fail(codeEditNotFound, "old_text was not found in %s; read the file and copy the text exactly%s", quote(req.Path), nearest(d.text, req.OldText))
		case n > 1 && !req.ReplaceAll:
			return fail(codeNotUnique, "old_text occurs %d times in %s (lines %s); add surrounding lines to make it unique or pass replace_all", n, quote(req.Path), matchLines(d.text, old))
		}
		text := strings.Replace(d.text, old, new, n)
		content, err := d.bytes(text, req.Path)
		if err != nil {
			return err
		}
		if len(content) > maxEditBytes {
			return fail(codeTooLarge, "the edited file would be %d bytes long and edits make at most %d; use a command such as sed", len(content), maxEditBytes)
		}
		res = EditResult{Path: p.display(), Replacements: n, Diff: unified(p.display(), d.text, text), Version: versionAfter(content)}
		if d.st.Nlink > 1 {
			res.HardLinks = int(d.st.Nlink)
			res.Note = fmt.Sprintf("the file had %d hard links: this name now has its own content, the others keep the old one", d.st.Nlink)
		}
		inPlace, err := f.rewrite(ctx, p, d, content)
		if inPlace {
			res.HardLinks = 0
			res.Note = "the file was written in place"
		}
		return err
	})
	return res, err
}

// rewrite replaces the content of the file d was loaded from, unless somebody
// else changed it since.
func (f *FS) rewrite(ctx context.Context, p *resolved, d *document, content []byte) (inPlace bool, err error) {
	r := replacement{old: &d.st, content: content}
	changed := func() error {
		return fail(codeConflict, "%s was changed by another program during the edit; read it again and repeat the edit", quote(p.given))
	}
	if p.root.leaf == "" {
		s, err := f.prepare(ctx, p, r)
		if err == nil {
			defer s.discard()
			if !unchanged(p.fd, p.name, &d.st) {
				return false, changed()
			}
			err := s.replace(ctx, &d.st, d.original)
			if err == errRewritten {
				return false, changed()
			}
			if err != nil {
				return false, err
			}
			syncDir(p.fd)
			return false, nil
		}
		if err != errOwner {
			return false, err
		}
	}
	if !unchanged(p.fd, p.name, &d.st) {
		return true, changed()
	}
	return true, f.writeInPlace(ctx, p, r)
}

// lineEnds counts the line ends of a text by kind.
type lineEnds struct{ crlf, lf int }

func lineEndsOf(text string) lineEnds {
	n := strings.Count(text, "\r\n")
	return lineEnds{n, strings.Count(text, "\n") - n}
}

func (e lineEnds) mixed() bool { return e.crlf > 0 && e.lf > 0 }

func (e lineEnds) String() string {
	switch {
	case e.mixed():
		return fmt.Sprintf("%d CRLF and %d LF", e.crlf, e.lf)
	case e.crlf > 0:
		return fmt.Sprintf("%d CRLF", e.crlf)
	}
	return fmt.Sprintf("%d LF", e.lf)
}

// unified is a diff of two versions of a file. Carriage returns are left out:
// they would show every line of a CRLF file as odd. A change of the line ends
// themselves is told in a line of its own.
func unified(name, old, new string) string {
	name = sandbox.OneLine(strings.TrimPrefix(name, "/"))
	d := udiff.Unified("a/"+name, "b/"+name,
		strings.ReplaceAll(old, "\r\n", "\n"), strings.ReplaceAll(new, "\r\n", "\n"))
	if was, now := lineEndsOf(old), lineEndsOf(new); d == "" || was.mixed() != now.mixed() || was.crlf > 0 != (now.crlf > 0) {
		d += fmt.Sprintf("[line ends: %s before, %s now]\n", was, now)
	}
	if len(d) > maxDiff {
		cut := strings.LastIndexByte(d[:maxDiff], '\n') + 1
		d = d[:cut] + fmt.Sprintf("[%d more bytes of diff left out]\n", len(d)-cut)
	}
	return strings.ToValidUTF8(d, "\uFFFD")
}

// matchLines lists the lines where old starts.
func matchLines(text, old string) string {
	const most = 10
	var out []string
	line, pos := 1, 0
	for {
		i := strings.Index(text[pos:], old)
		if i < 0 {
			break
		}
		if len(out) == most {
			out = append(out, "...")
			break
		}
		line += strings.Count(text[pos:pos+i], "\n")
		out = append(out, fmt.Sprint(line))
		line += strings.Count(old, "\n")
		pos += i + len(old)
	}
	return strings.Join(out, ", ")
}
