package main

import "strings"

// What setup writes into files of rules stands between these lines.
const rulesBegin, rulesEnd = "<!-- mcp-sandbox: begin -->\n", "<!-- mcp-sandbox: end -->\n"

// rulesFront heads a file of rules that is made for them, where the client wants one.
const rulesFront = "---\ndescription: commands run in mcp-sandbox\nalwaysApply: true\n---\n"

// rulesText tells an agent to use this server.
const rulesText = rulesBegin + `## Commands run in the sandbox

Run every shell command with the tools of the MCP server "` + serverName + `" (exec_command, write_stdin, read_output), and not with a built-in shell or terminal tool: those are not confined. Read and change files with its tools or your own. If a result says that the sandbox refused something, tell the user which setting it names instead of looking for a way around it.
` + rulesEnd

// editRules sets the rules in a client's file, or removes them. All else stays. alone
// says that the file was nothing but what setup makes of one that is not there.
func editRules(f clientFormat, text []byte, remove bool) (now []byte, alone bool) {
	front := ""
	if strings.HasSuffix(f.rules, ".mdc") {
		front = rulesFront
	}
	was := string(text)
	before, after, there := strings.Cut(was, rulesBegin)
	if there {
		_, after, there = strings.Cut(after, rulesEnd)
	}
	switch {
	case remove && !there:
		return text, false
	case remove:
		alone = was == front+rulesText
		if before = strings.TrimRight(before, "\n"); before != "" {
			before += "\n"
		}
		return []byte(before + after), alone
	case there:
		return []byte(before + rulesText + after), false
	case strings.TrimSpace(was) == "":
		return []byte(front + rulesText), false
	}
	if !strings.HasPrefix(was, "---") {
		was = front + was
	}
	was = strings.TrimRight(was, "\n") + "\n"
	if was != front {
		was += "\n"
	}
	return []byte(was + rulesText), false
}
