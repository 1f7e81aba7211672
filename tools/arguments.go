package tools

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/sandbox"
)

// refuse makes the error of a call refused in this package.
func refuse(code, format string, args ...any) error {
	return sandbox.Errorf(code, nil, format, args...)
}

// arguments are the fields of one call, lenient about the shapes models really
// send: null for absent, "10" for 10, "true" for true.
// Getters keep the first error; a handler checks err once before it acts, so
// that nothing has happened when an argument is bad.
type arguments struct {
	fields map[string]any
	// notes are sentences for the model about fields that were ignored.
	notes []string
	err   error
}

// decodeArguments refuses, by name, required fields that are missing and unknown
// ones that would change what the call does (see unknownFields).
func decodeArguments(raw any, def mcp.Tool) (*arguments, error) {
	fields, err := fieldsOf(raw, def.Name)
	if err != nil {
		return nil, err
	}
	notes, err := unknownFields(def.Name, "", fields, def.InputSchema.Properties, def.InputSchema.Required)
	if err != nil {
		return nil, err
	}
	for _, name := range def.InputSchema.Required {
		if fields[name] == nil {
			return nil, refuse("invalid_argument", "%s is missing; %s needs it", name, def.Name)
		}
	}
	return &arguments{fields: fields, notes: notes}, nil
}

// fieldsOf is the object of a call's arguments, empty when there are none.
func fieldsOf(raw any, tool string) (map[string]any, error) {
	fields := map[string]any{}
	switch v := raw.(type) {
	case nil:
	case map[string]any:
		fields = v
	case string:
		// Some clients send the object as its JSON text.
		if err := json.Unmarshal([]byte(v), &fields); err != nil {
			return nil, refuse("invalid_argument", "arguments is a string; send an object with the fields of %s", tool)
		}
	default:
		return nil, refuse("invalid_argument", "arguments is %s; send an object with the fields of %s", kindOf(raw), tool)
	}
	return fields, nil
}

func (a *arguments) fail(format string, args ...any) {
	if a.err == nil {
		a.err = refuse("invalid_argument", format, args...)
	}
}

func (a *arguments) has(name string) bool { return a.fields[name] != nil }

// text is a string argument as it is, NUL bytes included.
func (a *arguments) text(name, fallback string) string {
	switch v := a.fields[name].(type) {
	case nil:
		return fallback
	case string:
		return v
	default:
		a.fail("%s is %s; send a string", name, kindOf(v))
		return fallback
	}
}

// name is a string that ends up as a path, program or pattern, where NUL can
// only be a mistake or an attack.
func (a *arguments) name(name, fallback string) string {
	v := a.text(name, fallback)
	if strings.ContainsRune(v, 0) {
		a.fail("%s holds a NUL byte; remove it", name)
	}
	return v
}

// required is name, but present and not empty.
func (a *arguments) required(name string) string {
	v := a.name(name, "")
	if v == "" {
		a.fail("%s is empty; give it a value", name)
	}
	return v
}

func (a *arguments) boolean(name string, fallback bool) bool {
	switch v := a.fields[name].(type) {
	case nil:
		return fallback
	case bool:
		return v
	case string:
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "true":
			return true
		case "false":
			return false
		case "":
			return fallback
		}
		a.fail("%s is %q; send true or false", name, v)
	default:
		a.fail("%s is %s; send true or false", name, kindOf(v))
	}
	return fallback
}

// integer is refused below low or above high; clamped is for those the contract
// clamps instead.
func (a *arguments) integer(name string, fallback, low, high int) int {
	n, ok := a.number(name, fallback)
	if ok && (n < low || n > high) {
		a.fail("%s is %d; send a whole number from %d to %d", name, n, low, high)
		return fallback
	}
	return n
}

func (a *arguments) clamped(name string, fallback, low, high int) int {
	n, ok := a.number(name, fallback)
	if ok && n < 0 {
		a.fail("%s is %d; send a whole number from %d to %d", name, n, low, high)
		return fallback
	}
	return min(max(n, low), high)
}

func (a *arguments) number(name string, fallback int) (n int, given bool) {
	switch v := a.fields[name].(type) {
	case nil:
		return fallback, false
	case float64:
		if v != math.Trunc(v) || math.Abs(v) > 1<<53 {
			a.fail("%s is %v; send a whole number", name, v)
			return fallback, false
		}
		return int(v), true
	case string:
		t := strings.TrimSpace(v)
		if t == "" {
			return fallback, false
		}
		i, err := strconv.ParseInt(t, 10, 64)
		if err != nil {
			a.fail("%s is %q; send a whole number", name, v)
			return fallback, false
		}
		return int(i), true
	default:
		a.fail("%s is %s; send a whole number", name, kindOf(v))
		return fallback, false
	}
}

// list is an array of strings, or its JSON text.
func (a *arguments) list(name string) []string {
	v := a.fields[name]
	if s, ok := v.(string); ok && strings.TrimSpace(s) != "" {
		var l []any
		if json.Unmarshal([]byte(s), &l) != nil {
			a.fail("%s is a string; send an array of strings", name)
			return nil
		}
		v = l
	}
	switch v := v.(type) {
	case nil, string:
		return nil
	case []any:
		out := make([]string, 0, len(v))
		for i, e := range v {
			s, ok := e.(string)
			if !ok || strings.ContainsRune(s, 0) {
				a.fail("%s[%d] is not a string without NUL; send an array of strings", name, i)
				return nil
			}
			out = append(out, s)
		}
		return out
	default:
		a.fail("%s is %s; send an array of strings", name, kindOf(v))
		return nil
	}
}

// pairs is a list of NAME=VALUE, or an object of strings; numbers and booleans in it are taken as the
// text they would be in a shell.
func (a *arguments) pairs(name string) map[string]string {
	v := a.fields[name]
	if s, ok := v.(string); ok && strings.TrimSpace(s) != "" {
		var decoded any
		if json.Unmarshal([]byte(s), &decoded) == nil {
			v = decoded
		}
	}
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		out := make(map[string]string, len(v))
		for i, e := range v {
			text, _ := e.(string)
			key, value, ok := strings.Cut(text, "=")
			if !ok {
				a.fail("%s[%d] is not NAME=VALUE; send a list of such strings", name, i)
			}
			out[key] = value
		}
		return out
	case map[string]any:
		out := make(map[string]string, len(v))
		for k, e := range v {
			switch e := e.(type) {
			case string:
				out[k] = e
			case float64:
				out[k] = strconv.FormatFloat(e, 'f', -1, 64)
			case bool:
				out[k] = strconv.FormatBool(e)
			default:
				a.fail("%s.%s is %s; send a string", name, k, kindOf(e))
			}
		}
		return out
	default:
		a.fail("%s is %s; send a list of NAME=VALUE strings", name, kindOf(v))
		return nil
	}
}

// choice is one of the given words, the first being the default.
func (a *arguments) choice(name string, words ...string) string {
	v := a.name(name, words[0])
	if v == "" {
		return words[0]
	}
	if !slices.Contains(words, v) {
		a.fail("%s is %q; use one of %s", name, v, strings.Join(words, ", "))
		return words[0]
	}
	return v
}

func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case float64, int:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "an array"
	case map[string]any:
		return "an object"
	}
	return "of an unknown kind"
}

func base64Text(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
