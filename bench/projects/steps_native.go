package main

func javaSteps() []step {
	const source = `import java.io.*;
import java.util.*;

public class App {
    public static void main(String[] args) throws Exception {
        try (InputStream in = App.class.getResourceAsStream("/greet.txt")) {
            System.out.println("app: " + new Scanner(in).nextLine());
        }
    }
}
`
	const want = "app: hello from the mirror"
	return []step{
		{name: "javac", what: "compile, pack and run", needs: []string{"javac", "jar", "java"},
			files: map[string]string{"App.java": source, "greet.txt": "hello from the mirror\n"},
			cmd:   "javac -d out App.java && cp greet.txt out && jar --create --file app.jar --main-class App -C out . && java -jar app.jar", want: want},
		{name: "maven", what: "`mvn package` with a dependency", needs: []string{"mvn", "java"}, present: []string{debianMaven + "/org/apache/maven/plugins/maven-compiler-plugin"},
			files: map[string]string{
				"src/main/java/App.java": source,
				"settings.xml":           "<settings><mirrors><mirror><id>mirror</id><mirrorOf>*</mirrorOf><url>{{mirror}}/maven</url></mirror></mirrors></settings>\n",
				"pom.xml": `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>example.test</groupId><artifactId>app</artifactId><version>1.0</version>
  <properties><maven.compiler.source>17</maven.compiler.source><maven.compiler.target>17</maven.compiler.target><project.build.sourceEncoding>UTF-8</project.build.sourceEncoding></properties>
  <dependencies><dependency><groupId>example.test</groupId><artifactId>greet</artifactId><version>1.0</version></dependency></dependencies>
</project>
`,
			},
			cmd:  "mvn -B -q -s settings.xml -Dmaven.test.skip=true package && j=$(find ~ -name greet-1.0.jar | head -n 1) && java -cp target/app-1.0.jar:$j App",
			want: want},
		{name: "gradle", what: "`gradle jar` with a dependency", needs: []string{"gradle", "java"},
			files: map[string]string{
				"src/main/java/App.java": source,
				"settings.gradle":        "rootProject.name = 'app'\n",
				"build.gradle":           "apply plugin: 'java'\nrepositories { maven { url '{{mirror}}/maven' } }\ndependencies { compile 'example.test:greet:1.0' }\ntask go(type: JavaExec, dependsOn: 'classes') { main = 'App'; classpath = sourceSets.main.runtimeClasspath }\n",
			},
			cmd: "gradle --no-daemon --console=plain jar go", want: want},
	}
}

func cSteps() []step {
	files := map[string]string{
		"CMakeLists.txt": "cmake_minimum_required(VERSION 3.10)\nproject(app CXX)\nenable_testing()\nadd_executable(app main.cpp part.cpp)\nadd_test(NAME runs COMMAND app)\n",
		"main.cpp":       "#include <iostream>\n#include <string>\nstd::string part();\nint main() { std::cout << part() << std::endl; }\n",
		"part.cpp":       "#include <string>\n#include <vector>\n#include <algorithm>\nstd::string part() { return \"compiled\"; }\n",
	}
	return []step{
		{name: "cmake", what: "configure, build, `ctest`", needs: []string{"cmake", "make", "g++"}, files: files,
			cmd: "cmake -S . -B build && cmake --build build && ctest --test-dir build", want: "100% tests passed"},
		{name: "ccache", what: "CMake with ccache, a clean build each time", needs: []string{"cmake", "make", "g++", "ccache"}, files: files,
			cmd:  "rm -rf build && cmake -S . -B build -DCMAKE_CXX_COMPILER_LAUNCHER=ccache && ccache --zero-stats && cmake --build build && build/app && ccache --print-stats",
			want: "cache_miss\t2", wantSecond: "direct_cache_hit\t2"},
	}
}

func serviceSteps() []step {
	return []step{
		{name: "postgresql", what: "`initdb`, start, a query, stop", needs: []string{"initdb", "pg_ctl", "psql"},
			files: map[string]string{"db.sh": `set -e
[ -d data ] || initdb -D data -A trust -U app >/dev/null
pg_ctl -D data -w -l log -o "-h 127.0.0.1 -p {{port}} -k $PWD" start || { cat log; exit 1; }
psql -h 127.0.0.1 -p {{port}} -U app -d postgres -c "create table if not exists t(n int); insert into t values (1); select 'rows: ' || sign(count(*)) from t" || r=$?
pg_ctl -D data -m fast stop
exit ${r:-0}
`},
			// PostgreSQL refuses to run as root, which commands outside may be.
			cmd:  "if [ $(id -u) = 0 ]; then chown -R nobody . && HOME=$PWD setpriv --reuid=nobody --regid=nogroup --clear-groups bash db.sh; else bash db.sh; fi",
			want: "rows: 1"},
		{name: "redis", what: "start, set and get, stop", needs: []string{"redis-server", "redis-cli"},
			cmd: `redis-server --port {{port}} --bind 127.0.0.1 --dir "$PWD" --appendonly yes --daemonize yes --logfile log
r="redis-cli -p {{port}}"
for _ in $(seq 100); do $r ping >/dev/null 2>&1 && break; sleep 0.05; done
$r set greeting hello && $r get greeting && $r bgsave && $r shutdown || { cat log; exit 1; }`,
			want: "hello"},
		{name: "playwright", what: "`playwright install chromium`, a page of a local server", needs: []string{"node", "npm", "chromium"}, packages: []string{"playwright-core@" + playwrightVersion},
			files: map[string]string{
				".npmrc":       "registry={{mirror}}/npm/\n",
				"package.json": "{\"private\":true,\"dependencies\":{\"playwright-core\":\"" + playwrightVersion + "\"}}\n",
				"run.mjs": `import { chromium } from 'playwright-core'
import { createServer } from 'node:http'

const server = createServer((request, reply) => reply.end('<h1>before</h1><script>document.querySelector("h1").textContent = "scripted"</script>'))
await new Promise(done => server.listen(0, '127.0.0.1', done))
const browser = await chromium.launch()
const page = await browser.newPage()
await page.goto('http://127.0.0.1:' + server.address().port)
console.log('page:', await page.textContent('h1'))
await page.screenshot({ path: 'page.png' })
await browser.close()
server.close()
server.closeAllConnections()
`,
			},
			cmd: "export PLAYWRIGHT_DOWNLOAD_HOST={{mirror}}/playwright\nnpm install && npx playwright-core install --only-shell chromium && node run.mjs && test -s page.png", want: "page: scripted"},
	}
}
