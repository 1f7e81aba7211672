package tools

import (
	"context"
	"slices"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
)

// Grant is a part of the tools: those of some toolsets, or those that change
// nothing, or what is in both.
type Grant struct {
	sets     []string // none is all
	readOnly bool
}

// Grants together allow what any of them allows. nil allows everything, and an
// empty list nothing.
type Grants []Grant

// ParseGrant reads "all", or "read-only" and names of toolsets joined by commas.
// Code: invalid_argument.
func ParseGrant(text string) (Grant, error) {
	var g Grant
	if text == "all" {
		return g, nil
	}
	for _, word := range strings.Split(text, ",") {
		switch word = strings.TrimSpace(word); {
		case word == "read-only":
			g.readOnly = true
		case slices.Contains(toolsets, word):
			g.sets = append(g.sets, word)
		default:
			return Grant{}, refuse("invalid_argument", "there is no toolset %q; use all, or some of read-only, %s", word, strings.Join(toolsets, ", "))
		}
	}
	return g, nil
}

func (g Grant) allows(t tool) bool {
	if g.readOnly && !*t.def.Annotations.ReadOnlyHint {
		return false
	}
	return len(g.sets) == 0 || slices.ContainsFunc(t.sets, func(set string) bool { return slices.Contains(g.sets, set) })
}

func (g Grants) allow(t tool) bool {
	return g == nil || slices.ContainsFunc(g, func(one Grant) bool { return one.allows(t) })
}

// Allows says whether the tool of that name is offered at all, and whether it is
// among what is granted.
func (s *Server) Allows(g Grants, name string) (offered, granted bool) {
	i := slices.IndexFunc(s.tools, func(t tool) bool { return t.def.Name == name })
	if i < 0 {
		return false, false
	}
	return true, g.allow(s.tools[i])
}

// onlyGranted leaves out of a list, and of what can be called, the tools that the
// caller was not granted.
func (s *Server) onlyGranted(ctx context.Context, list []mcp.Tool) []mcp.Tool {
	g := CallerOf(ctx).Grants
	if g == nil {
		return list
	}
	var out []mcp.Tool
	for _, t := range list {
		if _, ok := s.Allows(g, t.Name); ok {
			out = append(out, t)
		}
	}
	return out
}
