/*
 * A wall clock that t/151_clock.pl sets: preloaded by the dynamic linker, it adds
 * what the file SUPERVISOR_TEST_CLOCK says, a number of microseconds.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MILLION 1000000

static volatile int64_t *ahead = NULL;

__attribute__((constructor)) static void
open_file(void)
{
	const char *path = getenv("SUPERVISOR_TEST_CLOCK");
	int			fd = path ? open(path, O_RDONLY) : -1;
	void	   *memory = fd >= 0 ? mmap(NULL, sizeof(*ahead), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (memory != MAP_FAILED)
		ahead = memory;
	if (fd >= 0)
		close(fd);
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
	int			result = (int) syscall(SYS_clock_gettime, clock, now);

	if (result == 0 && clock == CLOCK_REALTIME && ahead != NULL)
	{
		int64_t		us = (int64_t) now->tv_sec * MILLION + now->tv_nsec / 1000 + *ahead;

		now->tv_sec = us / MILLION;
		now->tv_nsec = us % MILLION * 1000 + now->tv_nsec % 1000;
	}
	return result;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec now;

	(void) zone;
	if (clock_gettime(CLOCK_REALTIME, &now) != 0)
		return -1;
	tv->tv_sec = now.tv_sec;
	tv->tv_usec = now.tv_nsec / 1000;
	return 0;
}
