/*
 * Counts what is done under a lock, for t/153_holds.pl: linked with the objects of
 * the extension, which are compiled with -fsanitize-coverage=trace-pc, and in place
 * of some functions of the server's (--wrap).  A step is a basic block of the
 * extension's code, or 64 bytes that are copied or set.  What took more steps than
 * SUPERVISOR_TEST_HOLD goes to stderr, with the addresses of who let go of the lock.
 * The postmaster is left out: it sets up shared memory, and nobody waits.
 */
#include "postgres.h"

#include <execinfo.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/lwlock.h"

#define FRAMES 8

void		__sanitizer_cov_trace_pc(void);
bool		__real_LWLockAcquire(LWLock *lock, LWLockMode mode);
bool		__wrap_LWLockAcquire(LWLock *lock, LWLockMode mode);
bool		__real_LWLockConditionalAcquire(LWLock *lock, LWLockMode mode);
bool		__wrap_LWLockConditionalAcquire(LWLock *lock, LWLockMode mode);
void		__real_LWLockRelease(LWLock *lock);
void		__wrap_LWLockRelease(LWLock *lock);
void	   *__real_memcpy(void *to, const void *from, size_t size);
void	   *__wrap_memcpy(void *to, const void *from, size_t size);
void	   *__real_memset(void *to, int c, size_t size);
void	   *__wrap_memset(void *to, int c, size_t size);

static int	held = 0;
static uint64 steps = 0;
static long limit = 0;

void
__sanitizer_cov_trace_pc(void)
{
	if (held > 0)
		steps++;
}

bool
__wrap_LWLockAcquire(LWLock *lock, LWLockMode mode)
{
	bool		waited = __real_LWLockAcquire(lock, mode);

	if (held++ == 0)
		steps = 0;
	return waited;
}

bool
__wrap_LWLockConditionalAcquire(LWLock *lock, LWLockMode mode)
{
	bool		acquired = __real_LWLockConditionalAcquire(lock, mode);

	if (acquired && held++ == 0)
		steps = 0;
	return acquired;
}

void
__wrap_LWLockRelease(LWLock *lock)
{
	uint64		n = steps;

	__real_LWLockRelease(lock);
	if (--held > 0 || !IsUnderPostmaster)
		return;
	if (limit == 0)
	{
		const char *value = getenv("SUPERVISOR_TEST_HOLD");

		limit = value != NULL ? atol(value) : LONG_MAX;
	}
	if (n > limit)
	{
		void	   *frames[FRAMES];

		fprintf(stderr, "a lock was held for " UINT64_FORMAT " steps:\n", n);
		backtrace_symbols_fd(frames, backtrace(frames, FRAMES), STDERR_FILENO);
		fprintf(stderr, "end of hold\n");
	}
}

void *
__wrap_memcpy(void *to, const void *from, size_t size)
{
	if (held > 0)
		steps += size / 64;
	return __real_memcpy(to, from, size);
}

void *
__wrap_memset(void *to, int c, size_t size)
{
	if (held > 0)
		steps += size / 64;
	return __real_memset(to, c, size);
}
