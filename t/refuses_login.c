/*
 * A library that lets nobody log in for whom it is preloaded, as one may that limits
 * connections; with the SQLSTATE that is set for the role.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	const char *s = GetConfigOption("refuses_login.sqlstate", false, false);

	ereport(FATAL,
			(errcode(MAKE_SQLSTATE(s[0], s[1], s[2], s[3], s[4])),
			 errmsg("this role is not let in now")));
}
