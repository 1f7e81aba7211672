// Gosdk lets the harness drive the Go SDK's client: it takes one JSON request
// per line on stdin and answers each with one JSON line on stdout.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// request is one line of the harness. Op is connect, list, call, cancel or
// close; Of names the connection, and for cancel the request to cancel.
type request struct {
	ID      int             `json:"id"`
	Op      string          `json:"op"`
	Of      int             `json:"of"`
	Target  target          `json:"target"`
	Name    string          `json:"name"`
	Args    json.RawMessage `json:"args"`
	Timeout int             `json:"timeout"` // milliseconds, 0 for none
}

type target struct {
	Kind    string   `json:"kind"`
	Command string   `json:"command"`
	Args    []string `json:"args"`
	URL     string   `json:"url"`
	Token   string   `json:"token"`
}

type driver struct {
	mu          sync.Mutex
	out         *json.Encoder
	connections map[int]*mcp.ClientSession
	cancels     map[int]context.CancelFunc
}

func main() {
	d := &driver{out: json.NewEncoder(os.Stdout), connections: map[int]*mcp.ClientSession{}, cancels: map[int]context.CancelFunc{}}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var r request
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			fmt.Fprintln(os.Stderr, "gosdk: bad request:", err)
			os.Exit(1)
		}
		ctx, cancel := context.WithCancel(context.Background())
		if r.Timeout > 0 {
			ctx, cancel = context.WithTimeout(context.Background(), time.Duration(r.Timeout)*time.Millisecond)
		}
		d.mu.Lock()
		d.cancels[r.ID] = cancel
		d.mu.Unlock()
		go d.serve(ctx, r)
	}
}

func (d *driver) serve(ctx context.Context, r request) {
	answer, err := d.do(ctx, r)
	if answer == nil {
		answer = map[string]any{}
	}
	answer["id"] = r.ID
	if err != nil {
		answer["error"] = err.Error()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cancels[r.ID]()
	delete(d.cancels, r.ID)
	d.write(answer)
}

// write needs mu.
func (d *driver) write(v any) {
	if err := d.out.Encode(v); err != nil {
		os.Exit(1)
	}
}

func (d *driver) do(ctx context.Context, r request) (map[string]any, error) {
	if r.Op == "connect" {
		return d.connect(r)
	}
	d.mu.Lock()
	session := d.connections[r.Of]
	cancel := d.cancels[r.Of]
	d.mu.Unlock()
	if r.Op == "cancel" {
		if cancel != nil {
			cancel()
		}
		return nil, nil
	}
	if session == nil {
		return nil, fmt.Errorf("no connection %d", r.Of)
	}
	switch r.Op {
	case "list":
		tools, err := session.ListTools(ctx, nil)
		if err != nil {
			return nil, err
		}
		names := []string{}
		for _, t := range tools.Tools {
			names = append(names, t.Name)
		}
		return map[string]any{"names": names}, nil
	case "call":
		p := &mcp.CallToolParams{Name: r.Name, Arguments: r.Args}
		p.SetProgressToken(fmt.Sprint(r.ID))
		result, err := session.CallTool(ctx, p)
		if err != nil {
			return nil, err
		}
		return map[string]any{"result": result}, nil
	case "close":
		return nil, session.Close()
	}
	return nil, errors.New("unknown op " + r.Op)
}

func (d *driver) connect(r request) (map[string]any, error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "clients-harness-go", Version: "1.0.0"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, p *mcp.ProgressNotificationClientRequest) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.write(map[string]any{"progressOf": p.Params.ProgressToken, "progress": p.Params.Progress, "message": p.Params.Message})
		},
	})
	httpClient := &http.Client{Transport: bearer(r.Target.Token)}
	var transport mcp.Transport
	switch r.Target.Kind {
	case "stdio":
		transport = &mcp.CommandTransport{Command: exec.Command(r.Target.Command, r.Target.Args...)}
	case "http":
		transport = &mcp.StreamableClientTransport{Endpoint: r.Target.URL, HTTPClient: httpClient}
	case "sse":
		transport = &mcp.SSEClientTransport{Endpoint: r.Target.URL, HTTPClient: httpClient}
	default:
		return nil, errors.New("unknown transport " + r.Target.Kind)
	}
	// The session lives on after this request.
	session, err := client.Connect(context.Background(), transport, nil)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.connections[r.ID] = session
	d.mu.Unlock()
	answer := map[string]any{}
	if info := session.InitializeResult(); info != nil && info.ServerInfo != nil {
		answer["server"] = info.ServerInfo.Name
	}
	return answer, nil
}

// bearer is a token that is sent with every request.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}
