package tools

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// clientExtras are arguments that clients, not models, add to every call. They
// concern the client alone and are dropped silently. A row whose names
// could also come from a model counts only when all of with are present.
var clientExtras = []struct {
	client string
	with   []string
	names  []string
}{
	{"Gemini CLI", nil, []string{"wait_for_previous"}},
	{"Antigravity and Windsurf", nil, []string{"waitForPreviousTools", "toolAction", "toolSummary"}},
	{"OpenHands", nil, []string{"security_risk"}},
	{"Cline", nil, []string{"task_progress"}},
	{"Cursor, for tools without arguments", nil, []string{"random_string"}},
	// https://github.com/n8n-io/n8n/issues/21500
	{"n8n", []string{"toolCallId"}, []string{"toolCallId", "tool", "action", "chatInput", "sessionId"}},
}

// harmless are names, or their last words, under which models explain
// themselves. None of them is treated as a misspelt argument.
var harmless = map[string]bool{
	"comment": true, "comments": true, "description": true, "explanation": true, "goal": true, "intent": true, "justification": true,
	"note": true, "notes": true, "purpose": true, "rationale": true, "reason": true, "reasoning": true, "summary": true,
	"thinking": true, "thought": true, "thoughts": true, "title": true,
}

// meaning is a group of words for an argument that would change what a call does, so
// a call with one of them is refused instead of run without it.
type meaning struct {
	// any are words that count wherever they stand in a name, whole are names.
	any, whole []string
	// ours are the arguments that may have been meant, in order; step is the
	// advice where the tool has none of them.
	ours []string
	step string
}

var meanings = []meaning{
	{any: []string{"timeout", "deadline", "seconds", "secs", "millis", "milliseconds"}, whole: []string{"time", "duration", "wait", "maxtime", "timelimit", "ttl", "delay"},
		ours: []string{"timeout_ms", "yield_time_ms"}},
	{any: []string{"cwd", "dir", "directory", "folder", "workspace"}, whole: []string{"pwd", "root", "basepath", "project", "location", "chdir"},
		ours: []string{"workdir", "path"}},
	{any: []string{"dryrun", "preview", "simulate", "simulation", "whatif", "noop"}, whole: []string{"dry", "check", "checkonly", "validate", "validateonly", "test", "plan", "confirm"},
		step: "nothing here is only tried out"},
	{any: []string{"background", "detach", "detached", "daemon", "nohup"}, whole: []string{"async", "block", "blocking", "sync", "isbackground", "waitforexit"},
		ours: []string{"yield_time_ms"}},
	{any: []string{"sudo", "uid", "gid"}, whole: []string{"user", "username", "group", "runas", "asroot", "isroot", "privileged", "elevated"},
		step: "commands run as the sandbox's user"},
	{any: []string{"hostname", "container"}, whole: []string{"host", "image", "machine", "server", "target", "remote", "device", "environmentid"},
		step: "commands and files are those of this sandbox"},
	{any: []string{"sandboxid"}, whole: []string{"sandbox", "sandboxname"}, ours: []string{sandboxArgument}, step: "this server has one sandbox"},
	{any: []string{"interpreter"}, whole: []string{"language", "lang", "executable", "program", "binary"}, ours: []string{"shell", "executable"}},
	{any: []string{"argv"}, whole: []string{"args", "arguments", "params", "parameters", "flags", "options", "script", "code", "command", "commands"}, ours: []string{"cmd"}},
	{any: []string{"environment"}, whole: []string{"variables", "vars", "envs", "envvars"}, ours: []string{"env"}},
	{any: []string{"stdin"}, whole: []string{"input", "isinput", "text", "data", "body", "keys", "keystrokes"}, ours: []string{"stdin", "chars", "content"}},
	{any: []string{"pty", "terminal"}, whole: []string{"interactive", "istty"}, ours: []string{"tty"}},
	{any: []string{"append", "overwrite"}, whole: []string{"force", "create", "createdirs", "parents", "exclusive", "exists", "ifexists", "noclobber", "backup", "permissions", "chmod", "perm"},
		ours: []string{"mode", "recursive", "replace_all"}},
	{any: []string{"noignore", "ignored"}, whole: []string{"unrestricted", "gitignore", "respectgitignore", "usegitignore"}, ours: []string{"all"}},
	{any: []string{"recurse", "recursively", "symlinks", "hidden"}, whole: []string{"follow", "deep", "levels", "maxlevels"}, ours: []string{"recursive", "depth", "all"}},
	{any: []string{"offset", "start", "begin", "skip"}, whole: []string{"line", "from", "since", "cursor", "page", "index", "position", "insertline"}, ours: []string{"offset"}},
	{any: []string{"limit", "head", "tail", "end", "range"}, whole: []string{"lines", "count", "max", "to", "until", "size", "length", "numlines", "pagesize", "top", "n"},
		ours: []string{"limit", "max_results", "max_output_tokens"}},
	{any: []string{"insensitive", "sensitive", "ignorecase"}, whole: []string{"case", "i"}, ours: []string{"ignore_case", "pattern"}},
	{any: []string{"fixedstrings", "plaintext"}, whole: []string{"literal", "fixed"}, ours: []string{"literal", "pattern"}},
	{any: []string{"regex", "regexp", "multiline"}, whole: []string{"query", "search", "word"}, ours: []string{"pattern"}},
	{any: []string{"include", "exclude", "ignore", "filter"}, whole: []string{"type", "types", "extension", "extensions", "only"}, ours: []string{"glob", "pattern"}},
	{any: []string{"ifmatch", "etag", "checksum"}, whole: []string{"hash", "version", "revision"}, ours: []string{"if_unchanged"}},
	{any: []string{"occurrence", "occurrences", "expected"}, whole: []string{"oldstr", "newstr", "oldstring", "newstring", "once"}, ours: []string{"replace_all", "old_text", "new_text"}},
	{any: []string{"memory", "network", "cpus"}, whole: []string{"cpu", "priority", "nice", "internet", "limits"}, step: "limits and the network are the server's settings"},
}

// argumentNames are the argument names of all tools: one of them sent to a tool
// that does not have it was meant for something.
var argumentNames = sync.OnceValue(func() map[string]bool {
	names := map[string]bool{sandboxArgument: true}
	for _, t := range allTools(Options{Remote: true, expose: true, staged: true, stageApply: true}) {
		for name := range t.def.InputSchema.Properties {
			names[name] = true
		}
	}
	delete(names, "label") // a label changes nothing
	return names
})

// unknownFields looks at the fields that a tool, or an object in its arguments, does
// not have. What concerns the client alone is dropped, what a call does not
// depend on is dropped with a note, and what would change its meaning is refused
// (invalid_argument). where is the path of the object, "" for the arguments
// themselves.
func unknownFields(tool, where string, fields, known map[string]any, required []string) (notes []string, err error) {
	var strange []string
	for name := range fields {
		if _, ok := known[name]; !ok && !(where == "" && isExtra(name, fields)) {
			strange = append(strange, name)
		}
	}
	slices.Sort(strange)
	owner := tool
	if where != "" {
		owner = where + " of " + tool
	}
	missing := slices.ContainsFunc(required, func(name string) bool { return fields[name] == nil }) ||
		where == "" && tool == "exec_command" && fields["cmd"] == nil && fields["argv"] == nil
	for _, name := range strange {
		switch step, changes := meant(name, known); {
		case missing:
			return nil, refuse("invalid_argument", "%s has no argument %q; %s", owner, name, listed(known))
		case asksNothing(fields[name]):
			if fields[name] != nil {
				notes = append(notes, ignored(where, name))
			}
		case changes:
			return nil, refuse("invalid_argument", "%s has no argument %q, and without it the call would mean something else; %s", owner, name, step)
		default:
			notes = append(notes, ignored(where, name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		inner, err := unknownInside(tool, join(where, name), fields[name], known[name])
		if err != nil {
			return nil, err
		}
		notes = append(notes, inner...)
	}
	return notes, nil
}

// unknownInside is unknownFields for the objects in one value.
func unknownInside(tool, where string, value, schema any) (notes []string, err error) {
	node, _ := schema.(map[string]any)
	switch v := value.(type) {
	case map[string]any:
		known, declared := node["properties"].(map[string]any)
		if !declared || len(known) == 0 {
			return nil, nil // its names are the caller's
		}
		return unknownFields(tool, where, v, known, texts(node["required"]))
	case []any:
		for i, item := range v {
			inner, err := unknownInside(tool, fmt.Sprintf("%s[%d]", where, i), item, node["items"])
			if err != nil {
				return nil, err
			}
			notes = append(notes, inner...)
		}
	}
	return notes, nil
}

// meant says whether an unknown name stands for something that the call would
// do differently, and what to send instead.
func meant(name string, known map[string]any) (step string, changes bool) {
	words := wordsOf(name)
	plain := strings.Join(words, "")
	if harmless[plain] || len(words) > 0 && harmless[words[len(words)-1]] {
		return "", false
	}
	for _, m := range meanings {
		hit := slices.Contains(m.whole, plain) || slices.Contains(m.any, plain)
		for i, w := range words {
			hit = hit || slices.Contains(m.any, w) || i > 0 && slices.Contains(m.any, words[i-1]+w)
		}
		if !hit {
			continue
		}
		for _, ours := range m.ours {
			if _, ok := known[ours]; ok {
				return "use " + ours, true
			}
		}
		if m.step != "" {
			return m.step + "; leave it out", true
		}
		return "leave it out or " + listed(known), true
	}
	for _, ours := range slices.Sorted(maps.Keys(known)) {
		if near(words, wordsOf(ours)) {
			return "use " + ours, true
		}
	}
	if argumentNames()[strings.Join(words, "_")] {
		return "leave it out or " + listed(known), true
	}
	return "", false
}

func isExtra(name string, fields map[string]any) bool {
	for _, row := range clientExtras {
		if slices.Contains(row.names, name) && !slices.ContainsFunc(row.with, func(w string) bool { return fields[w] == nil }) {
			return true
		}
	}
	return false
}

// asksNothing reports values that request nothing, whatever their name.
func asksNothing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == "" || strings.EqualFold(v, "false")
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

func ignored(where, name string) string {
	return fmt.Sprintf("ignored unknown argument %q", oneLine(join(where, name)))
}

func join(where, name string) string {
	if where == "" {
		return name
	}
	return where + "." + name
}

func listed(known map[string]any) string {
	if len(known) == 0 {
		return "it takes no arguments"
	}
	return "use " + strings.Join(slices.Sorted(maps.Keys(known)), ", ")
}

func texts(v any) []string {
	switch v := v.(type) {
	case []string:
		return v
	case []any:
		var out []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// wordsOf splits a name at what is not a letter or digit and where a capital
// begins, all in lower case: maxOutputTokens and max-output-tokens are one.
func wordsOf(name string) []string {
	var words []string
	var word []rune
	flush := func() {
		if len(word) > 0 {
			words = append(words, strings.ToLower(string(word)))
			word = word[:0]
		}
	}
	lower := false
	for _, r := range name {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			flush()
			lower = false
			continue
		case unicode.IsUpper(r) && lower:
			flush()
		}
		lower = !unicode.IsUpper(r)
		word = append(word, r)
	}
	flush()
	return words
}

// near says whether one name was probably written for the other: the same but
// for case and separators, one or two letters off, or with words left out.
func near(a, b []string) bool {
	x, y := strings.Join(a, ""), strings.Join(b, "")
	if x == "" {
		return false
	}
	if x == y {
		return true
	}
	within := func(a, b []string) bool {
		return !slices.ContainsFunc(a, func(w string) bool { return !slices.Contains(b, w) })
	}
	if within(a, b) || within(b, a) {
		return true
	}
	most := 0
	switch n := min(len(x), len(y)); {
	case n >= 6:
		most = 2
	case n >= 3:
		most = 1
	}
	return abs(len(x)-len(y)) <= most && distance(x, y) <= most
}

func abs(n int) int { return max(n, -n) }

// distance counts the letters to insert, delete, change or swap with their
// neighbour (Damerau and Levenshtein, optimal string alignment).
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := range x {
		row[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}
