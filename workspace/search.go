package workspace

import (
	"context"
	"errors"
	"regexp"
	"regexp/syntax"
	"runtime"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// Limits of Search.
const (
	defaultSearchMax = 200
	maxSearchMax     = 5000
	maxSearchContext = 20
	maxPattern       = 4096
)

// SearchRequest is the input of Search.
type SearchRequest struct {
	Pattern    string // RE2, matched line by line
	Path       string // a directory or a file; "" is "."
	Glob       string // only files that match, as in FindRequest; "!" in front leaves them out instead
	Context    int    // lines shown before and after, at most maxSearchContext
	MaxResults int    // most matching lines; 0 is defaultSearchMax
	Literal    bool   // Pattern is plain text
	IgnoreCase bool
	All        bool // as in FindRequest
}

// SearchLine is a line of a file that matches, or is near one that does.
type SearchLine struct {
	Line   int    // 1-based
	Text   string // cut around the match when long
	Match  bool
	Column int // byte of the match, 1-based, in the whole line; 0 for context
}

// FileMatches are the lines of one file in order. Between lines whose numbers
// do not follow each other, lines were left out.
type FileMatches struct {
	Path  string
	Lines []SearchLine
}

// SearchResult is in the order of paths.
type SearchResult struct {
	Files         []FileMatches
	Matches       int  // matching lines in Files
	FilesSearched int  // files read, binary ones not counted
	Truncated     bool // there is more than MaxResults, or the tree was too large
	Denied        int  // names passed over because policy hides them
	Unread        Unread
	Ignored       Ignored // files that Glob matches and directories, left out by ignore files

	bytes int // text taken so far
}

// maxSearchBytes bounds the text of a result, context included, and
// maxFileBytes that of one file. maxAhead bounds the files whose results wait
// for those of an earlier one.
const (
	maxSearchBytes = 8 << 20
	maxFileBytes   = 512 << 10
	maxAhead       = 256
)

// errEnough stops a search that has all it may return.
var errEnough = errors.New("enough results")

// Search searches files for lines that match. Binary files are passed over.
// Files are read in parallel, each in constant memory.
func (f *FS) Search(ctx context.Context, req SearchRequest) (SearchResult, error) {
	m, err := compileSearch(&req)
	if err != nil {
		return SearchResult{}, err
	}
	var g *glob
	if req.Glob != "" {
		if g, err = compileGlob(req.Glob); err != nil {
			return SearchResult{}, err
		}
	}
	var res SearchResult
	err = f.at(req.Path, walkOptions{follow: true}, func(p *resolved) error {
		st, err := p.stat()
		if err != nil {
			return err
		}
		if kindOf(st) == KindDirectory {
			res, err = f.searchTree(ctx, p, m, g, req)
			return err
		}
		file, err := openRegular(p)
		if err != nil {
			return err
		}
		defer file.Close()
		s := &fileSearcher{matcher: m, ctx: ctx}
		d := s.search(int(file.Fd()), req.MaxResults+1)
		if d.err != nil {
			return d.err
		}
		if !d.text {
			return fail(codeUnsupported, "%s is a binary file; search it with a command such as strings or grep -a", quote(req.Path))
		}
		res = SearchResult{FilesSearched: 1}
		res.add(FileMatches{p.display(), d.lines}, d, m.context, req.MaxResults)
		return nil
	})
	return res, err
}

// matcher is a compiled search.
type matcher struct {
	re      *regexp.Regexp
	size    int // instructions of the compiled pattern
	filter  *prefilter
	context int
	// wide is set for a pattern that may ask for more than ASCII, which has other
	// bytes in each encoding.
	wide bool
}

// asksWide is matcher.wide of an expression.
func asksWide(expr string) bool {
	return strings.ContainsFunc(expr, func(r rune) bool { return r >= utf8.RuneSelf }) ||
		strings.Contains(expr, `\x`) || strings.Contains(expr, `\p`) || strings.Contains(expr, `\P`)
}

func compileSearch(req *SearchRequest) (*matcher, error) {
	switch {
	case req.Pattern == "":
		return nil, fail(codeInvalid, "the pattern is empty; give text or a regular expression")
	case len(req.Pattern) > maxPattern:
		return nil, fail(codeInvalid, "the pattern is %d bytes long and at most %d are taken; shorten it", len(req.Pattern), maxPattern)
	case req.Context < 0 || req.MaxResults < 0:
		return nil, fail(codeInvalid, "context and the number of results cannot be negative; give numbers above 0")
	}
	if req.Path == "" {
		req.Path = "."
	}
	if req.MaxResults == 0 {
		req.MaxResults = defaultSearchMax
	}
	req.MaxResults = min(req.MaxResults, maxSearchMax)
	expr := req.Pattern
	if req.Literal {
		expr = regexp.QuoteMeta(expr)
	}
	if req.IgnoreCase {
		expr = "(?i)" + expr
	}
	re, size, err := compileRegexp(expr)
	if err != nil {
		reason := err.Error()
		var se *syntax.Error
		if errors.As(err, &se) {
			reason = se.Code.String() + ": " + se.Expr
		}
		return nil, failCause(err, codeInvalid, "the pattern is not a valid RE2 regular expression (%s); correct it or escape it to search for plain text", sandbox.OneLine(shorten(reason, 200)))
	}
	if size > maxInstructions {
		return nil, fail(codeInvalid, "the pattern is too large: its repetitions make %d steps and at most %d are taken; use smaller counts", size, maxInstructions)
	}
	return &matcher{re: re, size: size, filter: newPrefilter(expr, syntax.Perl), context: min(req.Context, maxSearchContext), wide: asksWide(expr)}, nil
}

// maxInstructions bounds a compiled pattern: each of them may be looked at for
// every character.
const maxInstructions = 20000

// compileRegexp gives the expression with the size of its program, and leaves
// the expression nil when that is more than maxInstructions.
func compileRegexp(expr string) (*regexp.Regexp, int, error) {
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, 0, err
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, 0, err
	}
	if len(prog.Inst) > maxInstructions {
		return nil, len(prog.Inst), nil
	}
	re, err := regexp.Compile(expr)
	return re, len(prog.Inst), err
}

// add takes the matches of one file as far as max and maxSearchBytes allow.
func (r *SearchResult) add(fm FileMatches, d searchDone, context, max int) {
	r.Truncated = r.Truncated || d.cut
	n, last := 0, 0
	for i, l := range fm.Lines {
		if l.Match && (r.Matches+n == max || r.bytes > maxSearchBytes) {
			// What stands after the last match taken is context of the next.
			for i > 0 && fm.Lines[i-1].Line > last+context {
				i--
			}
			if n == 0 {
				i = 0
			}
			r.Truncated, fm.Lines = true, fm.Lines[:i]
			break
		}
		if l.Match {
			n, last = n+1, l.Line
		}
		r.bytes += len(l.Text)
	}
	if n > 0 {
		r.Matches += n
		r.Files = append(r.Files, fm)
	}
}

// searchJob is a file to search; seq is its place in the order of paths.
type searchJob struct {
	seq  int
	dir  *dirHandle
	name string
	rel  string
}

type searchDone struct {
	seq    int
	rel    string
	lines  []SearchLine
	text   bool // not a binary file
	cut    bool // there is more than lines
	hidden bool
	err    error
}

// searchTree feeds files to workers and puts their answers back in order. The
// channels are short, so a search that has enough wastes little.
func (f *FS) searchTree(ctx context.Context, p *resolved, m *matcher, g *glob, req SearchRequest) (SearchResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	hidden := f.hiddenNow(ctx)
	workers := max(2, min(runtime.GOMAXPROCS(0)-1, 8)) // one is for other calls
	jobs := make(chan searchJob, 64)
	done := make(chan searchDone, 64)
	slots := make(chan struct{}, maxAhead)
	var wg sync.WaitGroup
	for range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			leave, err := f.enter()
			if err == nil {
				defer leave()
			}
			s := &fileSearcher{matcher: m, ctx: ctx, hidden: hidden}
			for j := range jobs {
				d := searchDone{err: err}
				if err == nil && ctx.Err() == nil {
					d = s.searchIn(j.dir.fd, j.name, req.MaxResults+1)
				}
				j.dir.release()
				d.seq, d.rel = j.seq, j.rel
				done <- d
			}
		}()
	}
	t := &tour{ctx: ctx, all: req.All}
	t.counts = func(rel, name string, kind Kind) bool {
		return kind == KindFile && (g == nil || g.match(rel, name))
	}
	seq := 0
	t.visit = func(v visited) error {
		if v.kind != KindFile || g != nil && !g.match(v.rel, v.name) {
			return nil
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		jobs <- searchJob{seq, v.dir.retain(), v.name, v.rel}
		seq++
		return nil
	}
	var tourErr error
	go func() {
		leave, err := f.enter()
		if err == nil {
			err = t.run(f, p)
			leave()
		}
		tourErr = err
		close(jobs)
		wg.Wait()
		close(done)
	}()
	var res SearchResult
	display := p.display()
	waiting := map[int]searchDone{}
	next := 0
	for d := range done {
		waiting[d.seq] = d
		for {
			d, ok := waiting[next]
			if !ok {
				break
			}
			delete(waiting, next)
			next++
			<-slots
			if context.Cause(ctx) == errEnough {
				continue
			}
			if d.err != nil {
				if ctx.Err() == nil {
					res.Unread.add(joinDisplay(display, d.rel))
				}
				continue
			}
			if d.text {
				res.FilesSearched++
			}
			if d.hidden {
				res.Denied++
			}
			res.add(FileMatches{joinDisplay(display, d.rel), d.lines}, d, m.context, req.MaxResults)
			if res.Truncated && (res.Matches >= req.MaxResults || res.bytes > maxSearchBytes) {
				cancel(errEnough)
			}
		}
	}
	cause := context.Cause(ctx)
	if cause != nil && cause != errEnough {
		return SearchResult{}, cause
	}
	if tourErr != nil && cause != errEnough {
		return SearchResult{}, tourErr
	}
	res.Truncated = res.Truncated || t.truncated
	res.Denied += t.left
	for _, name := range t.unread.below(display).Names {
		res.Unread.add(name)
	}
	res.Unread.Count += t.unread.Count - len(t.unread.Names)
	res.Ignored = t.ignored
	return res, nil
}

// searchIn searches a file named in an open directory.
func (s *fileSearcher) searchIn(dir int, name string, max int) searchDone {
	fd, err := retryEINTR(func() (int, error) {
		return unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	})
	if err != nil {
		if unreadable(err) {
			return searchDone{err: err}
		}
		return searchDone{} // gone, or swapped for a link
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || kindOf(&st) != KindFile {
		return searchDone{err: err}
	}
	if s.hidden.has(&st) {
		return searchDone{hidden: true}
	}
	return s.search(fd, max)
}
