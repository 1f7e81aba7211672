package tools

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

func listProcessesTool() tool {
	return tool{
		sets: []string{"core", "process"},
		def: mcp.NewTool("list_processes",
			mcp.WithDescription("List commands that run or ended in the last 10 minutes."),
			hints(true, false, true, false),
		),
		run: listProcesses,
	}
}

// processRow is one process in the structured result.
type processRow struct {
	SessionID int    `json:"session_id"`
	Command   string `json:"command"`
	PID       int    `json:"pid"`
	State     string `json:"state"`
	Started   string `json:"started"`
	LastUsed  string `json:"last_used"`
	TTY       bool   `json:"tty"`
	ExitCode  *int   `json:"exit_code,omitempty"`
	// OutputID names what an ended command has written, for read_output.
	OutputID       string `json:"output_id,omitempty"`
	StderrOutputID string `json:"stderr_output_id,omitempty"`
	// Background is what runs of an ended command.
	Background []relative `json:"background,omitempty"`
}

// relative is one living process of a command.
type relative struct {
	PID   int    `json:"pid"`
	Name  string `json:"name"`
	Ports []int  `json:"ports,omitempty"`
}

func newRelatives(rs []sandbox.Relative) []relative {
	out := make([]relative, len(rs))
	for i, r := range rs {
		out[i] = relative(r)
	}
	return out
}

// relativesText is such as "node pid 42 port 3000, sh pid 43".
func relativesText(rs []relative) string {
	const most = 16
	parts := make([]string, 0, len(rs))
	for _, r := range rs[:min(len(rs), most)] {
		s := fmt.Sprintf("%s pid %d", oneLine(r.Name), r.PID)
		for i, p := range r.Ports {
			if i == 0 {
				s += " port"
			}
			s += fmt.Sprintf(" %d", p)
		}
		parts = append(parts, s)
	}
	if more := len(rs) - most; more > 0 {
		parts = append(parts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(parts, ", ")
}

func listProcesses(_ context.Context, c *call) (*reply, error) {
	rows := []processRow{}
	for _, p := range c.session.Processes() {
		rows = append(rows, newProcessRow(p))
	}
	var b strings.Builder
	if len(rows) == 0 {
		b.WriteString("no processes\n")
	}
	for _, r := range rows {
		state := r.State
		if r.ExitCode != nil {
			state = fmt.Sprintf("%s %d", r.State, *r.ExitCode)
		}
		if r.State == session.StateBackground {
			state = fmt.Sprintf("%s (exited %d; %s)", r.State, *r.ExitCode, cmp.Or(relativesText(r.Background), "its processes run"))
		}
		tty := ""
		if r.TTY {
			tty = " tty"
		}
		output := ""
		if r.OutputID != "" {
			output = " output_id=" + r.OutputID
		}
		if r.StderrOutputID != "" {
			output += " stderr_output_id=" + r.StderrOutputID
		}
		fmt.Fprintf(&b, "%d %s pid %d%s%s since %s: %s\n", r.SessionID, state, r.PID, tty, output, r.Started, oneLine(r.Command))
	}
	return &reply{text: b.String(), structured: map[string]any{"processes": rows}}, nil
}

func newProcessRow(p session.ProcessInfo) processRow {
	row := processRow{
		SessionID: p.ID, Command: p.Command, PID: p.PID, State: p.State,
		Started: p.Started.UTC().Format(time.RFC3339), LastUsed: p.LastUsed.UTC().Format(time.RFC3339), TTY: p.TTY, OutputID: p.OutputID, StderrOutputID: p.StderrID,
	}
	if len(p.Background) > 0 {
		row.Background = newRelatives(p.Background)
	}
	if p.Exit != nil {
		code := p.Exit.Code
		row.ExitCode = &code
	}
	return row
}

// oneLine keeps a listing to one line a row: control bytes in a command are
// shown escaped, so that they can neither break the list nor pose as a row.
func oneLine(s string) string {
	const longest = 200
	cut := false
	if r := []rune(s); len(r) > longest {
		s, cut = string(r[:longest]), true
	}
	q := fmt.Sprintf("%q", s)
	q = strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
	if cut {
		q += " ..."
	}
	return q
}
