package tools

import (
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
)

// Which clients can be asked.
func TestTakesForms(t *testing.T) {
	set := &struct{}{}
	for name, c := range map[string]struct {
		capability *mcp.ElicitationCapability
		want       bool
	}{
		"none": {nil, false}, "unnamed": {&mcp.ElicitationCapability{}, true}, "form": {&mcp.ElicitationCapability{Form: set}, true},
		"both": {&mcp.ElicitationCapability{Form: set, URL: set}, true}, "url alone": {&mcp.ElicitationCapability{URL: set}, false},
	} {
		if got := takesForms(mcp.ClientCapabilities{Elicitation: c.capability}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
