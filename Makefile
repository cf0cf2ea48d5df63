# make                build, against the server that PG_CONFIG belongs to
# make install        install there
# make installcheck   run t/*.pl against what is installed, as a user who may start a server
#
# make demo, make test, make bench   install what is missing on Debian and Ubuntu, build,
#                                    install, and show it, test it, or measure it
# make bench-docs                    write docs/performance.md from what it measures
# make model                         check the models in model/ with spin
#
# WERROR=1 turns warnings into errors; PROVE_TESTS and PROVE_FLAGS go to prove.

MODULE_big = supervisor
EXTENSION = supervisor
DATA = supervisor--1.0.sql
HEADERS_supervisor = src/supervisor.h
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
TAP_TESTS = 1
EXTRA_CLEAN = .build

# META.json says which version this is; t/016_version.pl, who else must agree.
RELEASE := $(shell sed -n '/.*"version": "\(.*\)".*/{s//\1/p;q;}' META.json)
PG_CPPFLAGS = -I$(srcdir)/src -DSUP_VERSION='"$(RELEASE)"'
# what is switched off, the server's own headers and macros would raise
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-clobbered
ifeq ($(WERROR),1)
PG_CFLAGS += -Werror
endif

# Bitcode lets a query's JIT inline a function.  Ours wait for other processes,
# so it would only cost build time, and a need for clang.
override with_llvm = no

# PGXS would empty it if it came from the environment.
export override PROVE_FLAGS := $(PROVE_FLAGS)

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

.DEFAULT_GOAL := all

ifneq ($(wildcard $(PGXS)),)

include $(PGXS)

# PGXS tracks headers only if the server was built so, and servers and flags never.
$(OBJS): $(wildcard src/*.h) Makefile META.json .build
.build: FORCE
	@echo '$(VERSION) $(bindir) $(CC) $(CFLAGS)' | cmp -s - $@ || \
		echo '$(VERSION) $(bindir) $(CC) $(CFLAGS)' >$@
FORCE:

# initdb would say so, in a log, for each test.
installcheck: may-start-server
may-start-server:
	@test "$$(id -u)" -ne 0 || { \
		echo 'make installcheck starts servers, which PostgreSQL refuses to do for root.' >&2; \
		echo 'Run it as another user, or run make test, which changes to one.' >&2; \
		false; }

else

all install uninstall installcheck clean:
	@echo '$(PG_CONFIG): there are no PostgreSQL server development files.' >&2
	@echo 'Install postgresql-server-dev-N (make demo and make test do), or set PG_CONFIG.' >&2
	@false

endif

# These work without PostgreSQL.  scripts/prepare prints the pg_config to use.
demo test:
	@pg_config=$$(scripts/prepare '$(PG_CONFIG)') && \
	scripts/install "$$pg_config" && \
	PG_CONFIG="$$pg_config" scripts/$@

bench bench-docs:
	@pg_config=$$(scripts/prepare '$(PG_CONFIG)' cron) && \
	scripts/install "$$pg_config" && \
	PG_CONFIG="$$pg_config" bench/run $(if $(filter bench-docs,$@),--docs)

model:
	@scripts/model

.PHONY: demo test bench bench-docs model may-start-server FORCE
