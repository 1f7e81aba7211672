package tools

import "github.com/mark3labs/mcp-go/mcp"

// allTools is the tool list in the order clients show it: what a model needs
// most comes first.
func allTools(o Options) []tool {
	return []tool{
		execCommandTool(o),
		writeStdinTool(o),
		readOutputTool(),
		readScreenTool(),
		listProcessesTool(),
		killProcessTool(),
		readFileTool(),
		writeFileTool(),
		editFileTool(),
		applyPatchTool(),
		lsTool(),
		findFilesTool(),
		searchTextTool(),
		mkdirTool(),
		rmTool(),
		mvTool(),
		extractArchiveTool(),
		snapshotCreateTool(),
		snapshotListTool(),
		snapshotDiffTool(),
		snapshotRestoreTool(),
		exposePortTool(),
		sessionInfoTool(),
	}
}

// hints sets all four annotations. Clients act on them: a missing hint counts
// as destructive and open-world in some, and only read-only tools run in
// parallel or without asking in others. No title: the names say it, and the list
// has a budget.
func hints(readOnly, destructive, idempotent, openWorld bool) mcp.ToolOption {
	return func(t *mcp.Tool) {
		t.Annotations = mcp.ToolAnnotation{
			ReadOnlyHint:    &readOnly,
			DestructiveHint: &destructive,
			IdempotentHint:  &idempotent,
			OpenWorldHint:   &openWorld,
		}
	}
}
