# The short words people type. Everything is reachable with plain go as well.

GO ?= go
PACKAGES = ./...
LIMIT = 40m

.PHONY: test servers vet race race-all unit mysql demo build bench measure

## test: everything that has to pass: formats, vet, staticcheck, unit tests, the same with -race, real processes
test: servers vet unit race mysql
	@echo "all tests passed"

## servers: the databases that the tests start for themselves; as root it installs what is missing
servers:
	@.ci/servers

vet:
	@out=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); if [ -n "$$out" ]; then echo "gofmt: $$out"; exit 1; fi
	$(GO) vet $(PACKAGES)
	$(GO) tool staticcheck $(PACKAGES)

unit:
	@$(GO) test -p 2 -timeout $(LIMIT) -json $(PACKAGES) | $(GO) run ./integration/report

## race: the packages in which goroutines meet, under the race detector (-short leaves out what only counts or measures)
race:
	@$(GO) test -p 2 -short -race -timeout $(LIMIT) -json $(PACKAGES) | $(GO) run ./integration/report

## race-all: every test under the race detector, those that only count or measure as well; no part of test, since it takes an hour or more
race-all: servers
	@$(GO) test -p 1 -race -timeout 90m -json $(PACKAGES) | $(GO) run ./integration/report

## mysql: what runs on MariaDB, again on MySQL: the one XMQ_TEST_MYSQLD names, or Debian's where it can be had
## (but for the test of mysqldump: the program of that name on Debian is MariaDB's)
mysql: servers
	@XMQ_TEST_MYSQLD=$${XMQ_TEST_MYSQLD:-$$(.ci/mysql)}; export XMQ_TEST_MYSQLD; \
	if [ -z "$$XMQ_TEST_MYSQLD" ]; then echo "MySQL: NOT TESTED, for the reason above"; exit; fi; \
	{ $(GO) test -count=1 -timeout $(LIMIT) -skip TestADumpOfTheServersOwnProgram -json ./nodeclient/driver/mysql; \
	  $(GO) test -count=1 -timeout $(LIMIT) -json -run 'TestEveryDriver/mysql|TestMixedKindsOnOneLog|TestMariaDBAsks' ./integration; } | $(GO) run ./integration/report

demo:
	$(GO) run ./cmd/xmq demo

build:
	$(GO) build -o xmq ./cmd/xmq

## measure: pause and duration of a DUMP at 10 MiB and 1 GiB of each database; needs about 6 GiB of disk
measure: servers
	$(GO) test ./integration -run TestMeasureDUMP -v -timeout 60m -args -measure 1024 | grep -E 'measured|^(FAIL|ok|---)'

bench:
	$(GO) test -run '^$$' -bench . -benchmem $(PACKAGES)
