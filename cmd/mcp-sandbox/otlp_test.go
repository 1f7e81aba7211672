package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestOpenTelemetry: a real server tells a collector of every call, as part of
// the caller's trace, without a word of what was asked, and sends what is left
// when it stops.
func TestOpenTelemetry(t *testing.T) {
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	bodies := make(chan []byte, 100)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies <- append([]byte(r.URL.Path+" "), b...)
	}))
	defer collector.Close()

	n := startNetwork(t, nil, "--otlp-endpoint", collector.URL)
	c := n.session(annsToken)
	_, body, headers := c.message("exec_command", map[string]any{"cmd": "echo s3cret-word"})
	if resp, text := c.send(http.MethodPost, body, append(headers, "Traceparent: 00-"+trace+"-"+parent+"-01")...); !strings.Contains(text, "s3cret-word") {
		if strings.Contains(text, "confinement_unavailable") {
			unconfinable(t, text)
		}
		t.Fatalf("%s %s", resp.Status, text)
	}
	c.bad("not_found", "read_file", map[string]any{"path": "s3cret-file"})
	c.end()
	n.stop()
	close(bodies)

	type span struct {
		TraceID, ParentSpanID, Name string
		Attributes                  []struct {
			Key   string
			Value struct{ StringValue string }
		}
	}
	found := map[string]map[string]string{}
	for b := range bodies {
		path, text, _ := strings.Cut(string(b), " ")
		var m struct {
			ResourceSpans []struct {
				ScopeSpans []struct{ Spans []span }
			}
		}
		if err := json.Unmarshal([]byte(text), &m); path != "/v1/traces" || err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if strings.Contains(text, "s3cret") || strings.Contains(text, c.token) || strings.Contains(text, c.session) {
			t.Errorf("a span gives away what was asked or who may ask: %s", text)
		}
		for _, r := range m.ResourceSpans {
			for _, s := range r.ScopeSpans {
				for _, one := range s.Spans {
					attributes := map[string]string{"trace": one.TraceID, "parent": one.ParentSpanID}
					for _, a := range one.Attributes {
						attributes[a.Key] = a.Value.StringValue
					}
					found[one.Name] = attributes
				}
			}
		}
	}
	shell, file := found["tools/call exec_command"], found["tools/call read_file"]
	if len(found) != 2 || shell["trace"] != trace || shell["parent"] != parent || shell["error.type"] != "" {
		t.Errorf("%v", found)
	}
	if file["error.type"] != "not_found" || file["trace"] == trace || file["parent"] != "" {
		t.Errorf("%v", file)
	}
	if who := shell["mcp_sandbox.client"]; !strings.HasPrefix(who, "ann/") || who != file["mcp_sandbox.client"] {
		t.Errorf("clients %q and %q", who, file["mcp_sandbox.client"])
	}
}
