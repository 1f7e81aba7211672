package tools

import (
	"context"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/sandbox"
)

func sessionInfoTool() tool {
	return tool{
		sets: []string{"core", "session"},
		def: mcp.NewTool("session_info",
			mcp.WithDescription("Show the workspace, what confines commands, the network mode and limits."),
			hints(true, false, true, false),
		),
		run: sessionInfo,
	}
}

// info is the structured result; its zero limits are left out, they mean the
// default of the level.
type info struct {
	// Sandbox is the name its address gives it, empty without one.
	Sandbox     string          `json:"sandbox,omitempty"`
	Workspace   workspaceInfo   `json:"workspace"`
	Confinement sandbox.Report  `json:"confinement"`
	Network     sandbox.Network `json:"network"`
	Limits      map[string]any  `json:"limits"`
	Encoding    string          `json:"encoding"`
	Usage       map[string]any  `json:"usage"`
	// Manifest draws what the workspace was made with, empty without a manifest.
	Manifest string `json:"manifest,omitempty"`
	Exposed  []int  `json:"exposed_ports,omitempty"`
	// Policy says what is granted, hidden and protected.
	Policy string `json:"policy,omitempty"`
	// Durable says when files are stored beyond the machine, empty where they are not.
	Durable string `json:"durable,omitempty"`
	// GitUser is who commits are made as, "Name <mail>", empty for nobody.
	GitUser string `json:"git_user,omitempty"`
	// Git says why git finds no repository in the workspace though the user has one.
	Git string `json:"git,omitempty"`
}

type workspaceInfo struct {
	Path string `json:"path"`
	Kept bool   `json:"kept"`
	// Alias is where commands find it as well.
	Alias string `json:"alias,omitempty"`
	// Staged: files of the path change only when what was changed is applied.
	Staged bool `json:"staged,omitempty"`
}

func sessionInfo(_ context.Context, c *call) (*reply, error) {
	s := c.session
	running := 0
	for _, p := range s.Processes() {
		if p.Exit == nil {
			running++
		}
	}
	l := s.Limits()
	in := info{
		Workspace:   workspaceInfo{Path: s.Root(), Kept: !s.Owned() || s.Kept(), Alias: s.Alias(), Staged: s.Staged()},
		Confinement: s.Sandbox().Report(),
		Network:     s.Network(),
		Limits: map[string]any{
			"max_processes": 64, "max_yield_ms": c.server.options.MaxYield.Milliseconds(),
			"max_output_tokens": c.defaultTokens(),
		},
		Encoding: c.server.encoding.Name(),
		Usage:    map[string]any{"running": running, "created": s.Created().UTC().Format("2006-01-02T15:04:05Z")},
	}
	for name, v := range map[string]int64{
		"procs": int64(l.Procs), "file_size": l.FileSize, "open_files": int64(l.OpenFiles), "tmp": l.Tmp, "shm": l.Shm, "memory": l.Memory,
	} {
		if v > 0 {
			in.Limits[name] = v
		}
	}
	if l.CPU > 0 {
		in.Limits["cpu"] = l.CPU
	}

	var b strings.Builder
	if in.Sandbox = sandboxName(c.key); in.Sandbox != "" {
		fmt.Fprintf(&b, "sandbox: %s\n", in.Sandbox)
	}
	kept := "removed at the end"
	if in.Workspace.Kept {
		kept = "kept at the end"
	}
	if in.Workspace.Staged {
		who := "a person applies your changes, see stage_diff"
		if s.ModelApplies() {
			who = "your changes are applied, see stage_diff and stage_apply"
		}
		kept = "staged: it changes when " + who + "; watchers (inotify) inside are not told of the user's own edits, polling sees them"
	}
	fmt.Fprintf(&b, "workspace: %s (%s)\n", in.Workspace.Path, kept)
	if in.Workspace.Alias != "" {
		fmt.Fprintf(&b, "workspace alias: %s\n", in.Workspace.Alias)
	}
	fmt.Fprintf(&b, "confinement.level: %s\n", in.Confinement.Level)
	for _, layer := range in.Confinement.Layers {
		fmt.Fprintf(&b, "  %s: %s%s\n", layer.Name, layer.State, note(layer.Detail))
	}
	for _, w := range in.Confinement.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	if in.Policy = s.PolicyText(); in.Policy != "" {
		fmt.Fprintf(&b, "policy: %s\n", in.Policy)
	}
	if in.Durable = s.DurableText(); in.Durable != "" {
		fmt.Fprintf(&b, "durable: %s\n", in.Durable)
	}
	if in.GitUser = s.GitUser(); in.GitUser != "" {
		fmt.Fprintf(&b, "git user: %s\n", in.GitUser)
	} else {
		b.WriteString("git user: none; a person sets one with --git-user \"Name <mail>\"\n")
	}
	if in.Git = s.GitAboveText(); in.Git != "" {
		fmt.Fprintf(&b, "git: %s\n", in.Git)
	}
	fmt.Fprintf(&b, "network: %s\n", in.Network)
	fmt.Fprintf(&b, "limits: %s\n", formatMap(in.Limits))
	fmt.Fprintf(&b, "encoding: %s\n", in.Encoding)
	fmt.Fprintf(&b, "usage: %s\n", formatMap(in.Usage))
	if in.Exposed = s.ExposedPorts(); len(in.Exposed) > 0 {
		fmt.Fprintf(&b, "exposed_ports: %v\n", in.Exposed)
	} else if text := s.PortsText(); text != "" {
		fmt.Fprintf(&b, "ports: %s\n", text)
	}
	if in.Manifest = s.Describe(); in.Manifest != "" {
		fmt.Fprintf(&b, "manifest:\n%s", in.Manifest)
	}
	return &reply{text: b.String(), structured: in}, nil
}
