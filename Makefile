# The short words people type. Everything is reachable with plain go as well.

GO ?= go
P ?= ./...
LIMIT = 40m

# Tests that take seconds each: check leaves them out, by not selecting them. A test of integration knows that they exist.
LONG = TestXD06PowerCutAtEveryWrite|TestXD07KillAtEveryWrite|TestErrorAtEveryOperation|TestXQ06ProducersSurviveRestarts
LONG := $(LONG)|TestABrokerTakesNothingBeforeItServesItsGroup|TestUnreadableLogHasOneAlertThatEnds
LONG := $(LONG)|TestWhatAHookLeavesBehindHoldsNothing|TestSlowBodiesAreNotWaitedFor|TestUnfinishedBodiesShareABudget
LONG := $(LONG)|TestPublishCountsWhatItLeavesOut|TestACommandHasTheTimeItsIncrementNames|TestChunksUnderWay
LONG := $(LONG)|TestXQ08ScrubFindsDamageInAnOldSegment|TestAKeptPositionPassesTheConformanceSuite
LONG := $(LONG)|TestRS08AllOrdersOfFiveChunks|TestXE13ACrashAtEveryStepOfARestore|TestNearlyFullDiskFeedsAndStarts
# They run curl, python3 and go, which check does not install.
LONG := $(LONG)|TestTheProgramsOfTheChapterOfTheDoorsWork

.PHONY: help check one test servers installed vet unit race race-all mysql soak demo build bench measure night

## help: the targets, a line each
help:
	@sed -n 's/^## \([a-z-]*\): \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-9s %s\n", $$1, $$2 }'

## check: formats, vet, staticcheck and short tests of all packages, in about a minute; no servers, nothing installed
check: formats
	@$(MAKE) --no-print-directory -j2 staticcheck short

# The tests and staticcheck run beside each other when go vet has compiled what both need. Four packages at a time,
# since many tests wait for a disk or a timer.
.PHONY: formats govet staticcheck short
short: govet
	@$(GO) test -p 4 -vet=off -short -skip '^($(LONG))$$' -json ./... | $(GO) run ./integration/report

## one: one test of one package: make one P=./worker T=TestXE08
one:
	@[ -n "$(T)" ] || { echo "make one P=./worker T=TestXE08: T names the test"; exit 64; }
	$(GO) test -count=1 -v -timeout $(LIMIT) -run '$(T)' $(P)

## test: everything that has to pass, with servers that the tests start; as root it installs what is missing
test: installed vet unit race mysql
	@echo "all tests passed"

## servers: install the databases and programs that tests start for themselves (as root)
servers:
	@.ci/servers

# installed is servers for make test: nothing is asked of a user who is not root, who is told what is missing.
installed:
	@[ "$$(id -u)" != 0 ] || .ci/servers
	@.ci/servers missing

## vet: formats, go vet, staticcheck
vet: formats govet staticcheck

formats:
	@out=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); if [ -n "$$out" ]; then echo "gofmt: $$out"; exit 1; fi

govet:
	$(GO) vet ./...

staticcheck: govet
	$(GO) tool staticcheck ./...

## unit: every test once
unit:
	@$(GO) test -p 2 -timeout $(LIMIT) -json ./... | $(GO) run ./integration/report

## race: under the race detector, but for tests of other processes; what only counts or measures does less of it
race:
	@TEST_LESS=1 $(GO) test -p 2 -race -timeout $(LIMIT) -json ./... | $(GO) run ./integration/report

## race-all: every test in full under the race detector: an hour or more
race-all:
	@$(GO) test -p 1 -race -timeout 90m -json ./... | $(GO) run ./integration/report

## soak: what is longer than test: race-all, and a thousand random histories
soak: race-all
	@XMQ_SEEDS=1000 $(GO) test -count=1 -timeout 180m -json -run '^TestSimulation$$' ./broker/server | $(GO) run ./integration/report

## mysql: what runs on MariaDB, again on MySQL: the one XMQ_TEST_MYSQLD names, or Debian's where it can be had
# (but for the test of mysqldump: the program of that name on Debian is MariaDB's)
mysql:
	@XMQ_TEST_MYSQLD=$${XMQ_TEST_MYSQLD:-$$(.ci/mysql)}; export XMQ_TEST_MYSQLD; \
	if [ -z "$$XMQ_TEST_MYSQLD" ]; then echo "MySQL: NOT TESTED, for the reason above"; exit; fi; \
	{ $(GO) test -count=1 -timeout $(LIMIT) -skip TestADumpOfTheServersOwnProgram -json ./nodeclient/driver/mysql; \
	  $(GO) test -count=1 -timeout $(LIMIT) -json -run 'TestEveryDriver/mysql|TestMixedKindsOnOneLog|TestMariaDBAsks' ./integration; } | $(GO) run ./integration/report

## demo: the main job, with kills and a comparison
demo:
	$(GO) run ./cmd/xmq demo

## build: the binary xmq
build:
	$(GO) build -o xmq ./cmd/xmq

## measure: pause and duration of a DUMP at 10 MiB and 1 GiB of each database; needs about 6 GiB of disk
measure:
	$(GO) test ./integration -run TestMeasureDUMP -v -timeout 60m -args -measure 1024 | grep -E 'measured|^(FAIL|ok|---)'

## night: an operator's night again and again on the same log and databases (TestANightOnCall; once in test), about a minute each
night: servers
	$(GO) test ./integration -run TestANightOnCall -v -timeout 120m -args -nights 60 | grep -E '^ *(---|FAIL|ok)|increments on each topic'

## bench: the benchmarks of Go
bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...
