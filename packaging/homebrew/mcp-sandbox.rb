class McpSandbox < Formula
  desc "Kernel-confined shell for language models, over MCP"
  homepage "https://github.com/OWNER/mcp-sandbox"
  version "VERSION"
  license "MIT"

  on_macos do
    on_arm do
      url "https://github.com/OWNER/mcp-sandbox/releases/download/vVERSION/mcp-sandbox_VERSION_darwin_arm64.tar.gz"
      sha256 "SUM_darwin_arm64"
    end
    on_intel do
      url "https://github.com/OWNER/mcp-sandbox/releases/download/vVERSION/mcp-sandbox_VERSION_darwin_amd64.tar.gz"
      sha256 "SUM_darwin_amd64"
    end
  end
  on_linux do
    on_arm do
      url "https://github.com/OWNER/mcp-sandbox/releases/download/vVERSION/mcp-sandbox_VERSION_linux_arm64.tar.gz"
      sha256 "SUM_linux_arm64"
    end
    on_intel do
      url "https://github.com/OWNER/mcp-sandbox/releases/download/vVERSION/mcp-sandbox_VERSION_linux_amd64.tar.gz"
      sha256 "SUM_linux_amd64"
    end
  end

  def install
    bin.install "mcp-sandbox"
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/mcp-sandbox.bash" => "mcp-sandbox"
    zsh_completion.install "completions/_mcp-sandbox"
    fish_completion.install "completions/mcp-sandbox.fish"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/mcp-sandbox version")
  end
end
