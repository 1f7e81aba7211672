//go:build conformance

package tools

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// The MCP conformance suite calls tools, prompts and resources of fixed names.
// This file offers them next to the real tools, so that the suite judges our
// transport; it is in no build without the tag conformance, because it lets any
// client change the tool list. What each does is said by the suite
// (@modelcontextprotocol/conformance, the scenarios' descriptions).

func conformanceOptions() []server.ServerOption {
	return []server.ServerOption{
		server.WithToolCapabilities(true), server.WithPromptCapabilities(true), server.WithResourceCapabilities(true, true),
		server.WithCompletions(), server.WithPromptCompletionProvider(completer{}),
		server.WithLogging(), server.WithElicitation(), server.WithRoots(),
	}
}

func offerConformance(s *Server) {
	s.mcp.EnableSampling()
	f := &fixture{Server: s}
	_, _ = rand.Read(f.key[:]) // never fails (crypto/rand)
	f.contents()
	f.notifications()
	f.questions()
	f.inputs()
	f.resources()
	f.prompts()
}

type fixture struct {
	*Server
	key [32]byte
}

func (f *fixture) tool(name, description string, run server.ToolHandlerFunc, options ...mcp.ToolOption) {
	f.mcp.AddTool(mcp.NewTool(name, append([]mcp.ToolOption{mcp.WithDescription(description)}, options...)...), run)
}

const (
	// pixel is a PNG of one pixel, silence a WAV of two samples.
	pixel   = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
	silence = "UklGRigAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQQAAAAAAAAA"
)

// fixed answers every call alike.
func fixed(content ...mcp.Content) server.ToolHandlerFunc {
	return func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{Content: content}, nil
	}
}

func embedded(uri, mime, text string) mcp.Content {
	return mcp.NewEmbeddedResource(mcp.TextResourceContents{URI: uri, MIMEType: mime, Text: text})
}

func (f *fixture) contents() {
	f.tool("test_simple_text", "One text.", fixed(mcp.NewTextContent("This is a simple text response for testing.")))
	f.tool("test_image_content", "One image.", fixed(mcp.NewImageContent(pixel, "image/png")))
	f.tool("test_audio_content", "One sound.", fixed(mcp.NewAudioContent(silence, "audio/wav")))
	f.tool("test_embedded_resource", "One resource.", fixed(embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")))
	f.tool("test_multiple_content_types", "A text, an image and a resource.", fixed(
		mcp.NewTextContent("Multiple content types test:"), mcp.NewImageContent(pixel, "image/png"),
		embedded("test://mixed-content-resource", "application/json", `{"test":"data","value":123}`)))
	f.tool("test_error_handling", "Always fails.", func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultError("This tool intentionally returns an error for testing"), nil
	})
	f.mcp.AddTool(mcp.NewToolWithRawSchema("json_schema_2020_12_tool", "Its schema has every keyword of JSON Schema 2020-12 that must come through.", json.RawMessage(`{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
		"$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}},
		"properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}, "contactMethod": {"type": "string", "enum": ["phone", "email"]}, "phone": {"type": "string"}, "email": {"type": "string"}},
		"allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
		"if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
		"then": {"required": ["phone"]}, "else": {"required": ["email"]}, "additionalProperties": false}`)),
		fixed(mcp.NewTextContent("ok")))
	f.mcp.AddTool(mcp.NewToolWithRawSchema("test_x_mcp_header", "Its argument also travels as the header Mcp-Param-Region.",
		json.RawMessage(`{"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}`)),
		func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return mcp.NewToolResultText("region " + r.GetString("region", "")), nil
		})
}

func (f *fixture) notifications() {
	f.tool("test_tool_with_logging", "Logs three times.", func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for _, text := range []string{"Tool execution started", "Tool processing data", "Tool execution completed"} {
			f.logTo(ctx, text)
			time.Sleep(50 * time.Millisecond)
		}
		return mcp.NewToolResultText("logged"), nil
	})
	f.tool("test_logging_tool", "Logs once, when the request asks for it.", func(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		f.logTo(ctx, "logged")
		return mcp.NewToolResultText("logged"), nil
	})
	f.tool("test_tool_with_progress", "Reports its progress three times.", func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for _, done := range []int{0, 50, 100} {
			if m := r.Params.Meta; m != nil && m.ProgressToken != nil {
				f.notify(ctx, "notifications/progress", map[string]any{"progressToken": m.ProgressToken, "progress": done, "total": 100})
			}
			time.Sleep(50 * time.Millisecond)
		}
		return mcp.NewToolResultText("done"), nil
	})
	f.tool("test_trigger_tool_change", "Changes the tool list.", func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		f.tool("test_changed", "Comes and goes.", fixed(mcp.NewTextContent("ok")))
		f.mcp.DeleteTools("test_changed")
		return mcp.NewToolResultText("changed"), nil
	})
	f.tool("test_trigger_prompt_change", "Changes the prompt list.", func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		f.mcp.AddPrompt(mcp.NewPrompt("test_changed"), f.says(mcp.NewTextContent("ok")))
		f.mcp.DeletePrompts("test_changed")
		return mcp.NewToolResultText("changed"), nil
	})
}

// logTo logs to a client that wants it: since 2026-07-28 each request says so,
// before that the session does.
func (f *fixture) logTo(ctx context.Context, text string) {
	level := mcp.LoggingLevel("")
	if info := server.RequestProtocolInfoFromContext(ctx); info != nil && info.Modern {
		level = info.LogLevel
	} else if s, ok := server.ClientSessionFromContext(ctx).(server.SessionWithLogging); ok {
		level = s.GetLogLevel()
	}
	if level != "" && mcp.LoggingLevelInfo.ShouldSendTo(level) {
		f.notify(ctx, "notifications/message", map[string]any{"level": "info", "logger": "conformance", "data": text})
	}
}

func form(message string, properties map[string]any, required ...string) mcp.ElicitationParams {
	schema := map[string]any{"type": "object", "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	return mcp.ElicitationParams{Message: message, RequestedSchema: schema}
}

// field is a form of one string.
func field(message, name string) mcp.ElicitationParams {
	return form(message, map[string]any{name: map[string]any{"type": "string"}}, name)
}

func ask(text string, tokens int) mcp.CreateMessageParams {
	return mcp.CreateMessageParams{Messages: []mcp.SamplingMessage{{Role: mcp.RoleUser, Content: mcp.NewTextContent(text)}}, MaxTokens: tokens}
}

// questions are requests of the server's own, up to 2025-11-25.
func (f *fixture) questions() {
	f.tool("test_sampling", "Asks the client's model.", func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		answer, err := f.mcp.RequestSampling(ctx, mcp.CreateMessageRequest{Request: mcp.Request{Method: string(mcp.MethodSamplingCreateMessage)}, CreateMessageParams: ask(r.GetString("prompt", ""), 100)})
		if err != nil {
			return mcp.NewToolResultError(err.Error()), nil
		}
		return mcp.NewToolResultText("LLM response: " + sampled(answer)), nil
	}, mcp.WithString("prompt", mcp.Required()))
	elicits := func(name, description, prefix string, params func(mcp.CallToolRequest) mcp.ElicitationParams, options ...mcp.ToolOption) {
		f.tool(name, description, func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			answer, err := f.mcp.RequestElicitation(ctx, mcp.ElicitationRequest{Request: mcp.Request{Method: string(mcp.MethodElicitationCreate)}, Params: params(r)})
			if err != nil {
				return mcp.NewToolResultError(err.Error()), nil
			}
			content, err := json.Marshal(answer.Content)
			return mcp.NewToolResultText(fmt.Sprintf("%s: action=%s, content=%s", prefix, answer.Action, content)), err
		}, options...)
	}
	text := func(description string) map[string]any {
		return map[string]any{"type": "string", "description": description}
	}
	elicits("test_elicitation", "Asks the user.", "User response", func(r mcp.CallToolRequest) mcp.ElicitationParams {
		return form(r.GetString("message", ""), map[string]any{"username": text("User's response"), "email": text("User's email address")}, "username", "email")
	}, mcp.WithString("message", mcp.Required()))
	elicits("test_elicitation_sep1034_defaults", "Asks the user, with a default for each type.", "Elicitation completed", func(mcp.CallToolRequest) mcp.ElicitationParams {
		return form("Please review", map[string]any{
			"name": map[string]any{"type": "string", "default": "John Doe"}, "age": map[string]any{"type": "integer", "default": 30},
			"score": map[string]any{"type": "number", "default": 95.5}, "verified": map[string]any{"type": "boolean", "default": true},
			"status": map[string]any{"type": "string", "enum": []string{"active", "inactive", "pending"}, "default": "active"},
		})
	})
	titled := func(values, names []string) (out []any) {
		for i, v := range values {
			out = append(out, map[string]any{"const": v, "title": names[i]})
		}
		return out
	}
	values, names := []string{"value1", "value2", "value3"}, []string{"First Option", "Second Option", "Third Option"}
	plain := []string{"option1", "option2", "option3"}
	elicits("test_elicitation_sep1330_enums", "Asks the user to choose, in each form of a choice.", "Elicitation completed", func(mcp.CallToolRequest) mcp.ElicitationParams {
		return form("Please choose", map[string]any{
			"untitledSingle": map[string]any{"type": "string", "enum": plain},
			"titledSingle":   map[string]any{"type": "string", "oneOf": titled(values, names)},
			"legacyEnum":     map[string]any{"type": "string", "enum": values, "enumNames": names},
			"untitledMulti":  map[string]any{"type": "array", "items": map[string]any{"type": "string", "enum": plain}},
			"titledMulti":    map[string]any{"type": "array", "items": map[string]any{"anyOf": titled(values, names)}},
		})
	})
}

func sampled(r *mcp.CreateMessageResult) string {
	// Content decoded from JSON is a map, made by this package it is a TextContent.
	raw, _ := json.Marshal(r.Content)
	var c mcp.TextContent
	_ = json.Unmarshal(raw, &c)
	return c.Text
}

// inputs are what a server needs from its client since 2026-07-28: the call ends
// with what it lacks, and comes again with it (SEP-2322).
func (f *fixture) inputs() {
	need := func(name, description string, run func(ctx context.Context, p mcp.CallToolParams) (*server.InputRequestBuilder, string, error)) {
		f.tool(name, description, func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			wanted, text, err := run(ctx, r.Params)
			switch {
			case err != nil:
				return nil, err
			case wanted != nil:
				return wanted.ToolResult(), nil
			}
			return mcp.NewToolResultText(text), nil
		})
	}
	name := field("What is your name?", "name")
	elicitation := func(_ context.Context, p mcp.CallToolParams) (*server.InputRequestBuilder, string, error) {
		if answer := server.ElicitationResponse(p.InputResponses, "user_name"); answer != nil {
			return nil, fmt.Sprintf("Hello, %v!", contentOf(answer)["name"]), nil
		}
		return server.NewInputRequestBuilder("").Elicit("user_name", name), "", nil
	}
	need("test_input_required_result_elicitation", "Needs the user's name.", elicitation)
	need("test_streaming_elicitation", "Needs the user's name.", elicitation)
	need("test_input_required_result_sampling", "Needs the client's model.", func(_ context.Context, p mcp.CallToolParams) (*server.InputRequestBuilder, string, error) {
		if answer := server.SamplingResponse(p.InputResponses, "capital_question"); answer != nil {
			return nil, sampled(answer), nil
		}
		return server.NewInputRequestBuilder("").Sample("capital_question", ask("What is the capital of France?", 100)), "", nil
	})
	need("test_input_required_result_list_roots", "Needs the client's roots.", func(_ context.Context, p mcp.CallToolParams) (*server.InputRequestBuilder, string, error) {
		if answer := server.RootsResponse(p.InputResponses, "client_roots"); answer != nil {
			var uris []string
			for _, r := range answer.Roots {
				uris = append(uris, r.URI)
			}
			return nil, strings.Join(uris, " "), nil
		}
		return server.NewInputRequestBuilder("").Roots("client_roots"), "", nil
	})
	confirm := func(_ context.Context, p mcp.CallToolParams) (*server.InputRequestBuilder, string, error) {
		if p.RequestState == "" {
			return server.NewInputRequestBuilder(f.sign("confirm")).Elicit("confirm", form("Please confirm", map[string]any{"ok": map[string]any{"type": "boolean"}}, "ok")), "", nil
		}
		if f.signed(p.RequestState) != "confirm" || server.ElicitationResponse(p.InputResponses, "confirm") == nil {
			return nil, "", errors.New("requestState was changed on its way")
		}
		return nil, "state-ok", nil
	}
	need("test_input_required_result_request_state", "Needs a confirmation, and its state back.", confirm)
	need("test_input_required_result_tampered_state", "Needs a confirmation, and its state back unchanged.", confirm)
	need("test_input_required_result_multiple_inputs", "Needs the user, the model and the roots.", func(_ context.Context, p mcp.CallToolParams) (*server.InputRequestBuilder, string, error) {
		user, model, roots := server.ElicitationResponse(p.InputResponses, "user_name"), server.SamplingResponse(p.InputResponses, "greeting"), server.RootsResponse(p.InputResponses, "client_roots")
		if user != nil && model != nil && roots != nil && f.signed(p.RequestState) == "all" {
			return nil, fmt.Sprintf("%s %v, %d roots", sampled(model), contentOf(user)["name"], len(roots.Roots)), nil
		}
		return server.NewInputRequestBuilder(f.sign("all")).Elicit("user_name", name).Sample("greeting", ask("Generate a greeting", 50)).Roots("client_roots"), "", nil
	})
	need("test_input_required_result_multi_round", "Needs a name, then a colour.", func(_ context.Context, p mcp.CallToolParams) (*server.InputRequestBuilder, string, error) {
		first, second := server.ElicitationResponse(p.InputResponses, "step1"), server.ElicitationResponse(p.InputResponses, "step2")
		switch kind, who, _ := strings.Cut(f.signed(p.RequestState), " "); {
		case kind == "step1" && first != nil:
			return server.NewInputRequestBuilder(f.sign(fmt.Sprintf("step2 %v", contentOf(first)["name"]))).Elicit("step2", field("Step 2: What is your favorite color?", "color")), "", nil
		case kind == "step2" && second != nil:
			return nil, fmt.Sprintf("%s likes %v", who, contentOf(second)["color"]), nil
		}
		return server.NewInputRequestBuilder(f.sign("step1")).Elicit("step1", field("Step 1: What is your name?", "name")), "", nil
	})
	need("test_input_required_result_capabilities", "Needs whatever the client can do.", func(ctx context.Context, p mcp.CallToolParams) (*server.InputRequestBuilder, string, error) {
		if len(p.InputResponses) > 0 {
			return nil, "done", nil
		}
		b, c := server.NewInputRequestBuilder(""), declared(ctx)
		if c.Elicitation != nil {
			b.Elicit("user_name", name)
		}
		if c.Sampling != nil {
			b.Sample("greeting", ask("Generate a greeting", 50))
		}
		return b, "", nil
	})
	need("test_missing_capability", "Needs a client that declares sampling.", func(ctx context.Context, _ mcp.CallToolParams) (*server.InputRequestBuilder, string, error) {
		if declared(ctx).Sampling == nil {
			return nil, "", mcp.MissingRequiredClientCapabilityError{Capability: "sampling"}
		}
		return nil, "declared", nil
	})
}

// declared is what the request says its client can do.
func declared(ctx context.Context) (c mcp.ClientCapabilities) {
	if info := server.RequestProtocolInfoFromContext(ctx); info != nil && info.ClientCapabilities != nil {
		c = *info.ClientCapabilities
	}
	return c
}

func contentOf(r *mcp.ElicitationResult) map[string]any {
	m, _ := r.Content.(map[string]any)
	return m
}

// sign makes a state that signed takes back, "" for any other.
func (f *fixture) sign(state string) string {
	h := hmac.New(sha256.New, f.key[:])
	h.Write([]byte(state))
	return state + "." + hex.EncodeToString(h.Sum(nil))
}

func (f *fixture) signed(s string) string {
	if i := strings.LastIndex(s, "."); i >= 0 && hmac.Equal([]byte(s), []byte(f.sign(s[:i]))) {
		return s[:i]
	}
	return ""
}

func (f *fixture) resources() {
	add := func(uri, name, mime string, content mcp.ResourceContents) {
		f.mcp.AddResource(mcp.NewResource(uri, name, mcp.WithResourceDescription("Of the conformance suite."), mcp.WithMIMEType(mime)),
			func(context.Context, mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
				return []mcp.ResourceContents{content}, nil
			})
	}
	for uri, text := range map[string]string{"test://static-text": "This is the content of the static text resource.", "test://watched-resource": "Watched."} {
		add(uri, strings.TrimPrefix(uri, "test://"), "text/plain", mcp.TextResourceContents{URI: uri, MIMEType: "text/plain", Text: text})
	}
	add("test://static-binary", "static-binary", "image/png", mcp.BlobResourceContents{URI: "test://static-binary", MIMEType: "image/png", Blob: pixel})
	f.mcp.AddResourceTemplate(mcp.NewResourceTemplate("test://template/{id}/data", "template", mcp.WithTemplateDescription("Of the conformance suite."), mcp.WithTemplateMIMEType("application/json")),
		func(_ context.Context, r mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
			id := strings.TrimSuffix(strings.TrimPrefix(r.Params.URI, "test://template/"), "/data")
			text, err := json.Marshal(map[string]any{"id": id, "templateTest": true, "data": "Data for ID: " + id})
			return []mcp.ResourceContents{mcp.TextResourceContents{URI: r.Params.URI, MIMEType: "application/json", Text: string(text)}}, err
		})
}

// says is a prompt of what a user says.
func (f *fixture) says(content ...mcp.Content) server.PromptHandlerFunc {
	return func(context.Context, mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return saying(content...), nil
	}
}

func saying(content ...mcp.Content) *mcp.GetPromptResult {
	r := &mcp.GetPromptResult{}
	for _, c := range content {
		r.Messages = append(r.Messages, mcp.NewPromptMessage(mcp.RoleUser, c))
	}
	return r
}

func (f *fixture) prompts() {
	add := func(name, description string, run server.PromptHandlerFunc, arguments ...string) {
		options := []mcp.PromptOption{mcp.WithPromptDescription(description)}
		for _, a := range arguments {
			options = append(options, mcp.WithArgument(a, mcp.ArgumentDescription("Any text."), mcp.RequiredArgument()))
		}
		f.mcp.AddPrompt(mcp.NewPrompt(name, options...), run)
	}
	add("test_simple_prompt", "Without arguments.", f.says(mcp.NewTextContent("This is a simple prompt for testing.")))
	add("test_prompt_with_arguments", "With two arguments.", func(_ context.Context, r mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		a := r.Params.Arguments
		return saying(mcp.NewTextContent(fmt.Sprintf("Prompt with arguments: arg1='%s', arg2='%s'", a["arg1"], a["arg2"]))), nil
	}, "arg1", "arg2")
	add("test_prompt_with_embedded_resource", "With a resource.", func(_ context.Context, r mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return saying(embedded(r.Params.Arguments["resourceUri"], "text/plain", "Embedded resource content for testing."), mcp.NewTextContent("Please process the embedded resource above.")), nil
	}, "resourceUri")
	add("test_prompt_with_image", "With an image.", f.says(mcp.NewImageContent(pixel, "image/png"), mcp.NewTextContent("Please analyze the image above.")))
	add("test_input_required_result_prompt", "Needs context from the user.", func(_ context.Context, r mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		if answer := server.ElicitationResponse(r.Params.InputResponses, "user_context"); answer != nil {
			return saying(mcp.NewTextContent(fmt.Sprint(contentOf(answer)["context"]))), nil
		}
		return server.NewInputRequestBuilder("").Elicit("user_context", field("What context should the prompt use?", "context")).PromptResult(), nil
	})
}

type completer struct{}

func (completer) CompletePromptArgument(_ context.Context, _ string, a mcp.CompleteArgument, _ mcp.CompleteContext) (*mcp.Completion, error) {
	values := slices.DeleteFunc([]string{"paris", "park", "party", "test"}, func(v string) bool { return !strings.HasPrefix(v, a.Value) })
	return &mcp.Completion{Values: values, Total: len(values)}, nil
}
