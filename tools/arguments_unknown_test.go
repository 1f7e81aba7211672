package tools

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
)

// TestUnknownArguments is what becomes of arguments that no tool has: those that
// clients add are dropped, harmless ones noted, and those that would change what
// the call does are refused with what to send instead.
func TestUnknownArguments(t *testing.T) {
	tools := map[string]mcp.Tool{}
	for _, tl := range allTools(Options{Remote: true, expose: true}) {
		tools[tl.def.Name] = tl.def
	}
	for _, tc := range []struct {
		tool, args string
		notes      string // joined with |
		refused    string // pattern
	}{
		// What clients add.
		{"exec_command", `{"cmd":"x","wait_for_previous":true}`, "", ""},
		{"session_info", `{"wait_for_previous":false}`, "", ""},
		{"session_info", `{"random_string":"dummy"}`, "", ""},
		{"exec_command", `{"cmd":"x","waitForPreviousTools":true,"toolAction":"Running","toolSummary":"s"}`, "", ""},
		{"write_stdin", `{"session_id":1,"toolCallId":"c","tool":"t","action":"a","chatInput":"i","sessionId":"n"}`, "", ""},
		{"write_stdin", `{"session_id":1,"sessionId":2}`, "", `no argument "sessionId".*; use session_id`},
		{"read_file", `{"wait_for_previous":true}`, "", "path is missing; read_file needs it"},
		// How models explain themselves.
		{"exec_command", `{"cmd":"x","description":"List files"}`, `ignored unknown argument "description"`, ""},
		{"exec_command", `{"cmd":"x","justification":"y","foo":1}`, `ignored unknown argument "foo"|ignored unknown argument "justification"`, ""},
		{"write_file", `{"path":"a","content":"b","comment":"c","intent":"d"}`, `ignored unknown argument "comment"|ignored unknown argument "intent"`, ""},
		{"exec_command", `{"cmd":"x","command_description":"y"}`, `ignored unknown argument "command_description"`, ""},
		{"exec_command", `{"cmd":"x","with_escalated_permissions":true}`, `ignored unknown argument "with_escalated_permissions"`, ""},
		// A value that asks for nothing changes nothing.
		{"exec_command", `{"cmd":"x","timeout":null}`, "", ""},
		{"exec_command", `{"cmd":"x","dry_run":false}`, `ignored unknown argument "dry_run"`, ""},
		{"exec_command", `{"cmd":"x","cwd":""}`, `ignored unknown argument "cwd"`, ""},
		// With a required one missing, the whole list as ever.
		{"exec_command", `{"command":"x"}`, "", `^exec_command has no argument "command"; use argv, cmd, cols, env, `},
		{"exec_command", `{"cmdd":"x"}`, "", `^exec_command has no argument "cmdd"; use argv, cmd, cols, env, `},
		{"read_file", `{"file_path":"x"}`, "", `^read_file has no argument "file_path"; use `},
		{"exec_command", `{"description":"x"}`, "", `^exec_command has no argument "description"; use argv`},
		// What would change the call.
		{"exec_command", `{"cmd":"x","timeout":5}`, "", `"timeout".*; use timeout_ms`},
		{"exec_command", `{"cmd":"x","timeoutSeconds":5}`, "", `; use timeout_ms`},
		{"exec_command", `{"cmd":"x","time_limit":5}`, "", `; use timeout_ms`},
		{"exec_command", `{"cmd":"x","cwd":"/tmp"}`, "", `; use workdir`},
		{"exec_command", `{"cmd":"x","working_directory":"a"}`, "", `; use workdir`},
		{"exec_command", `{"cmd":"x","workingDir":"a"}`, "", `; use workdir`},
		{"ls", `{"directory":"a"}`, "", `; use path`},
		{"rm", `{"path":"a","dry_run":true}`, "", `nothing here is only tried out`},
		{"mv", `{"path":"a","destination":"b","dryRun":true}`, "", `nothing here is only tried out`},
		{"exec_command", `{"cmd":"x","run_in_background":true}`, "", `; use yield_time_ms`},
		{"exec_command", `{"cmd":"x","CMD":"y"}`, "", `"CMD".*; use cmd`},
		{"exec_command", `{"cmd":"x","args":["y"]}`, "", `; use cmd`},
		{"exec_command", `{"cmd":"x","max_tokens":5}`, "", `; use max_output_tokens`},
		{"exec_command", `{"cmd":"x","maxOutputTokens":5}`, "", `; use max_output_tokens`},
		{"exec_command", `{"cmd":"x","yield_ms":5}`, "", `; use yield_time_ms`},
		{"exec_command", `{"cmd":"x","shel":"bash"}`, "", `; use shell`},
		{"exec_command", `{"cmd":"x","session_id":1234}`, "", `leave it out or use argv`},
		{"exec_command", `{"cmd":"x","sudo":true}`, "", `commands run as the sandbox's user`},
		{"write_file", `{"path":"a","content":"b","append":true}`, "", `; use mode`},
		{"edit_file", `{"path":"a","old_text":"b","new_text":"c","replaceAll":true}`, "", `; use replace_all`},
		{"edit_file", `{"path":"a","old_text":"b","new_text":"c","regex":true}`, "", `leave it out or use`},
		{"edit_file", `{"path":"a","old_text":"b","new_text":"c","expected_replacements":2}`, "", `; use replace_all`},
		{"read_file", `{"path":"a","start_line":5}`, "", `; use offset`},
		{"read_file", `{"path":"a","end_line":5}`, "", `; use limit`},
		{"search_text", `{"pattern":"a","include":"*.go"}`, "", `; use glob`},
		{"search_text", `{"pattern":"a","ignore_case":true,"literal":true,"all":true}`, "", ""},
		{"search_text", `{"pattern":"a","insensitive":true}`, "", `ignore_case`},
		{"search_text", `{"pattern":"a","no_ignore":true}`, "", `; use all`},
		{"find_files", `{"pattern":"a","include_ignored":true}`, "", `; use all`},
		{"rm", `{"path":"a","recusive":true}`, "", `; use recursive`},
		{"session_info", `{"verbose":true}`, `ignored unknown argument "verbose"`, ""},
	} {
		t.Run(tc.tool+tc.args, func(t *testing.T) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(tc.args), &fields); err != nil {
				t.Fatal(err)
			}
			a, err := decodeArguments(fields, tools[tc.tool])
			switch {
			case tc.refused != "":
				if err == nil || codeOf(err) != "invalid_argument" || !regexp.MustCompile(tc.refused).MatchString(err.Error()) {
					t.Errorf("%v, want %s", err, tc.refused)
				}
			case err != nil:
				t.Error(err)
			case strings.Join(a.notes, "|") != tc.notes:
				t.Errorf("notes %q, want %q", a.notes, tc.notes)
			}
		})
	}
}

// TestUnknownInObjects: objects in arguments are looked at as arguments are,
// unless their names are the caller's.
func TestUnknownInObjects(t *testing.T) {
	def := mcp.NewTool("many", mcp.WithObject("env", mcp.AdditionalProperties(map[string]any{"type": "string"})),
		mcp.WithArray("edits", mcp.Required(), mcp.Items(map[string]any{
			"type": "object", "required": []any{"old_text"},
			"properties": map[string]any{"old_text": map[string]any{"type": "string"}, "replace_all": map[string]any{"type": "boolean"}},
		})))
	for _, tc := range []struct{ args, notes, refused string }{
		{`{"edits":[{"old_text":"a","why":"b"}],"env":{"timeout":"5","CWD":"x"}}`, `ignored unknown argument "edits[0].why"`, ""},
		{`{"edits":[{"old_text":"a"},{"old_text":"a","replaceAll":true}]}`, "", `^edits\[1\] of many has no argument "replaceAll".*; use replace_all`},
		{`{"edits":[{"oldText":"a"}]}`, "", `^edits\[0\] of many has no argument "oldText"; use old_text, replace_all`},
		{`{"edits":[{"old_text":"a","dry_run":true}]}`, "", "tried out"},
	} {
		var fields map[string]any
		if err := json.Unmarshal([]byte(tc.args), &fields); err != nil {
			t.Fatal(err)
		}
		a, err := decodeArguments(fields, def)
		if tc.refused != "" {
			if err == nil || !regexp.MustCompile(tc.refused).MatchString(err.Error()) {
				t.Errorf("%s: %v", tc.args, err)
			}
		} else if err != nil || strings.Join(a.notes, "|") != tc.notes {
			t.Errorf("%s: %v %v", tc.args, a, err)
		}
	}
}

// TestMeaningsNameArguments: advice names arguments that exist, and every own
// argument is found under the spellings of other languages.
func TestMeaningsNameArguments(t *testing.T) {
	have := argumentNames()
	for _, m := range meanings {
		for _, ours := range m.ours {
			if !have[ours] {
				t.Errorf("no tool has %s", ours)
			}
		}
		if m.step == "" && len(m.ours) == 0 {
			t.Errorf("%v has no advice", m.any)
		}
		for _, w := range slices.Concat(m.any, m.whole) {
			if harmless[w] || w != strings.Join(wordsOf(w), "") {
				t.Errorf("%q is never looked for", w)
			}
		}
	}
	for _, tl := range allTools(Options{expose: true}) {
		for _, name := range slices.Sorted(maps.Keys(tl.def.InputSchema.Properties)) {
			words := strings.Split(name, "_")
			for i := 1; i < len(words); i++ {
				words[i] = strings.ToUpper(words[i][:1]) + words[i][1:]
			}
			for _, other := range []string{strings.Join(words, ""), strings.ToUpper(name), strings.ReplaceAll(name, "_", "-")} {
				if other == name {
					continue
				}
				if step, changes := meant(other, tl.def.InputSchema.Properties); !changes {
					t.Errorf("%s: %s is taken for nothing (%s)", tl.def.Name, other, step)
				}
			}
		}
	}
}
