package main

import (
	"errors"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// editTOML sets or removes the table [mcp_servers.sandbox] of Codex's settings. All
// other lines stay.
func editTOML(text, entry string) (string, error) {
	table := regexp.MustCompile(`^\s*\[+\s*(.*?)\s*\]+\s*(#.*)?$`)
	ours := regexp.MustCompile(`^mcp_servers\s*\.\s*"?sandbox"?(\s*\..*)?$`)
	var out []string
	inside := ""
	skipping := false
	var kept []string // comments that may be the next table's
	for line := range strings.Lines(text) {
		if m := table.FindStringSubmatch(strings.TrimRight(line, "\r\n")); m != nil {
			inside = m[1]
			skipping = ours.MatchString(inside)
		}
		trimmed := strings.TrimSpace(line)
		if inside == "" && strings.HasPrefix(trimmed, "mcp_servers") || inside == "mcp_servers" && regexp.MustCompile(`^"?sandbox"?\s*[.=]`).MatchString(trimmed) {
			return "", errors.New("it has mcp_servers in another form")
		}
		switch {
		case !skipping:
			out = append(append(out, kept...), line)
			kept = nil
		case trimmed == "":
		case trimmed[0] == '#':
			kept = append(kept, line)
		default:
			kept = nil
		}
	}
	out = append(out, kept...)
	rest := strings.Join(out, "")
	if len(out) > 0 && rest != text {
		rest = strings.TrimRight(rest, "\n") + "\n"
	}
	if entry != "" && rest != "" {
		rest = strings.TrimRight(rest, "\n") + "\n\n"
	}
	rest += entry
	return rest, sameTOML(text, rest, entry != "")
}

// sameTOML reports a change of anything but the one table.
func sameTOML(was, now string, set bool) error {
	others := func(text string) (map[string]any, bool, error) {
		out := map[string]any{}
		if err := toml.Unmarshal([]byte(text), &out); err != nil {
			return nil, false, errors.New("it is not TOML")
		}
		servers, _ := out["mcp_servers"].(map[string]any)
		_, has := servers[serverName]
		delete(servers, serverName)
		if len(servers) == 0 {
			delete(out, "mcp_servers")
		}
		return out, has, nil
	}
	before, _, err := others(was)
	if err != nil {
		return err
	}
	after, has, err := others(now)
	if err != nil || has != set || !reflect.DeepEqual(before, after) {
		return errors.New("its form is not understood")
	}
	return nil
}

// editYAML sets or removes sandbox below extensions in Goose's settings. entry is
// that part with an indentation of two for its name.
func editYAML(text, entry string) (string, error) {
	lines := strings.SplitAfter(text, "\n")
	at := -1
	for i, line := range lines {
		if strings.HasPrefix(line, "extensions:") {
			if rest, _, _ := strings.Cut(strings.TrimPrefix(line, "extensions:"), "#"); strings.TrimSpace(rest) != "" && strings.TrimSpace(rest) != "{}" || at >= 0 {
				return "", errors.New("it has extensions in another form")
			}
			at = i
		}
	}
	if at < 0 {
		if entry == "" {
			return text, nil
		}
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		return text + "extensions:\n" + entry, nil
	}
	indent := func(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
	blank := func(line string) bool { t := strings.TrimSpace(line); return t == "" || t[0] == '#' }
	of := 2 // what the names below are indented by
	for _, line := range lines[at+1:] {
		if !blank(line) {
			if strings.HasPrefix(strings.TrimSpace(line), "-") {
				return "", errors.New("its extensions are a list")
			}
			if indent(line) > 0 {
				of = indent(line)
			}
			break
		}
	}
	out := append([]string(nil), lines[:at]...)
	head := strings.TrimSuffix(lines[at], "\n")
	if before, after, _ := strings.Cut(head, "{}"); strings.TrimSpace(before) == "extensions:" {
		head = "extensions:" + after
	}
	out = append(out, head+"\n")
	name := len(out) - 1
	if entry != "" {
		for line := range strings.Lines(entry) {
			out = append(out, strings.Repeat(" ", of-2)+line)
		}
	}
	skipping, below, had := false, true, false
	for _, line := range lines[at+1:] {
		if !blank(line) && indent(line) <= of {
			below = below && indent(line) > 0
			skipping = below && indent(line) == of && strings.HasPrefix(strings.TrimSpace(line), "sandbox:")
			had = had || skipping
		}
		if !skipping {
			out = append(out, line)
		}
	}
	if entry == "" && !had {
		return text, nil
	}
	first := slices.IndexFunc(out[name+1:], func(line string) bool { return !blank(line) })
	if first < 0 || indent(out[name+1+first]) == 0 {
		out[name] = "extensions: {}" + strings.TrimPrefix(head, "extensions:") + "\n" // not null
	}
	return strings.Join(out, ""), nil
}
