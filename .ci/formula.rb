# A stand-in for as much of Homebrew as a formula of ours uses: it picks the archive
# for a system, looks that its name and sum are those of the release, and installs it.
# usage: ruby .ci/formula.rb FORMULA RELEASE linux|macos intel|arm PREFIX
require "digest"
require "fileutils"

FORMULA, RELEASE, SYSTEM, CPU, PREFIX = ARGV

class Place
  def initialize(dir)
    @dir = File.join(PREFIX, dir)
  end

  def to_s
    @dir
  end

  def install(*what)
    FileUtils.mkdir_p(@dir)
    what.flatten.each do |one|
      (one.is_a?(Hash) ? one : { one => File.basename(one) }).each { |from, to| FileUtils.cp(from, File.join(@dir, to)) }
    end
  end
end

class Formula
  class << self
    attr_reader :given

    def inherited(formula)
      super
      @formula = formula
    end

    def formula
      Formula.instance_variable_get(:@formula)
    end

    %i[desc homepage version license url sha256].each do |name|
      define_method(name) { |value| (@given ||= {})[name] = value }
    end

    def on_macos = SYSTEM == "macos" && yield
    def on_linux = SYSTEM == "linux" && yield
    def on_intel = CPU == "intel" && yield
    def on_arm = CPU == "arm" && yield
    def test; end
  end

  { bin: "bin", man1: "share/man/man1", bash_completion: "etc/bash_completion.d",
    zsh_completion: "share/zsh/site-functions", fish_completion: "share/fish/vendor_completions.d" }.each do |name, dir|
    define_method(name) { Place.new(dir) }
  end
end

load FORMULA
given = Formula.formula.given
abort "the description is longer than the 80 characters brew audit takes" if given[:desc].length > 80
abort "no version" unless given[:url].include?("/v#{given[:version]}/")
archive = File.join(RELEASE, File.basename(given[:url]))
abort "#{archive} has another sum" unless Digest::SHA256.file(archive).hexdigest == given[:sha256]
Dir.chdir(FileUtils.mkdir_p(File.join(PREFIX, "unpacked")).first) do
  system("tar", "-xzf", archive, exception: true)
  Formula.formula.new.install
end
