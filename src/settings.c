/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  What a session has SET, on its way to a worker; and the own settings of
 *	  declared workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "compat.h"
#include "settings.h"

typedef struct Collecting
{
	StringInfo	buf;
	int			n;
} Collecting;

/*
 * Not handed on: what belongs to the transaction or says who one is (core
 * exempts those from RESET ALL), what can't be set any more in a session, the
 * encoding of the client, which a worker has not, the worker's own name, and
 * where its own tasks shall go: a task in which somebody else has a say would
 * bring them into a pool that he may not use, see sup_pool_arg().
 */
static bool
stays_at_home(const struct config_generic *conf)
{
	return (conf->flags & GUC_NO_RESET_ALL) != 0 ||
		(conf->context != PGC_USERSET && conf->context != PGC_SUSET) ||
		strcmp(conf->name, "client_encoding") == 0 ||
		strcmp(conf->name, "application_name") == 0 ||
		strcmp(conf->name, "supervisor.default_pool") == 0;
}

/*
 * Append one setting, unless it is not handed on.  A real is written with
 * all its digits: what SHOW displays might be another number.
 */
static void
collect_one(struct config_generic *conf, void *arg)
{
	Collecting *c = arg;

	if (stays_at_home(conf))
		return;
	appendBinaryStringInfo(c->buf, conf->name, strlen(conf->name) + 1);
	if (conf->vartype == PGC_REAL)
		appendStringInfo(c->buf, "%.17g", sup_setting_real(conf));
	else
	{
		const char *value = GetConfigOption(conf->name, true, false);

		appendStringInfoString(c->buf, value ? value : "");
	}
	appendStringInfoChar(c->buf, '\0');
	appendBinaryStringInfo(c->buf, (char *) &conf->srole, sizeof(conf->srole));
	c->n++;
}

/*
 * See stays_at_home() for those that are left out.  What the role has in any
 * session, the worker's has as well; but not if it is another one here, behind
 * a SET ROLE, than the one that has logged in.
 */
int
sup_settings_collect(StringInfo buf)
{
	Collecting	c = {buf, 0};
	uint32		sources = SUP_SOURCE(PGC_S_SESSION) | SUP_SOURCE(PGC_S_CLIENT);

	if (GetUserId() != GetSessionUserId())
		sources |= SUP_SOURCE(PGC_S_USER) | SUP_SOURCE(PGC_S_DATABASE_USER);
	sup_foreach_set_setting(sources, collect_one, &c);
	return c.n;
}

/* What a role may SET depends on whether it is a superuser. */
static inline GucContext
context_of(Oid role)
{
	return superuser_arg(role) ? PGC_SUSET : PGC_USERSET;
}

/*
 * Who sets it decides what may be set, now or, if the setting is one of a
 * library that is not loaded yet, then.  A SECURITY DEFINER function hands on
 * what its caller has set: that takes the rights of both.
 */
void
sup_settings_apply(const char *data, int n)
{
	Oid			me = GetUserId();
	GucContext	my_context = context_of(me);

	while (n-- > 0)
	{
		const char *name = data;
		const char *value = name + strlen(name) + 1;
		Oid			setter;

		data = value + strlen(value) + 1;
		memcpy(&setter, data, sizeof(setter));
		data += sizeof(setter);

		if (setter == me || superuser_arg(setter))
			(void) set_config_option(name, value, my_context, PGC_S_SESSION,
									 GUC_ACTION_SET, true, DEBUG1, false);
		else if (set_config_option(name, value, my_context, PGC_S_SESSION,
								   GUC_ACTION_SET, false, DEBUG1, false) != 0)
			(void) set_config_option_ext(name, value, context_of(setter), PGC_S_SESSION,
										 setter, GUC_ACTION_SET, true, DEBUG1, false);
	}
}

/*
 * Checked first as ALTER ROLE ... SET would check it: of what a client sends when
 * it connects, as which it is applied then, core would take more.  A name that
 * it does not know, with a dot in it, is a library's that may be loaded later: core keeps
 * who has set it, and asks then.
 */
void
sup_settings_own(char *const *settings, int n, Oid role, bool apply)
{
	GucContext	context = context_of(role);

	for (int i = 0; i < n; i++)
	{
		char	   *value = strchr(settings[i], '=');
		char	   *name = pnstrdup(settings[i], value++ - settings[i]);

		if ((GetConfigOptionFlags(name, true) & GUC_NO_RESET_ALL) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("parameter \"%s\" cannot be a setting of a worker", name),
					 errdetail("It belongs to a transaction, or says whose session it is.")));
		(void) set_config_option_ext(name, value, context, PGC_S_TEST, role,
									 GUC_ACTION_SET, false, ERROR, false);
		if (apply)
			(void) set_config_option_ext(name, value, context, PGC_S_CLIENT, role,
										 GUC_ACTION_SET, true, ERROR, false);
		pfree(name);
	}
}

/* Unlike collect_one(), this counts all that RESET ALL would reset. */
static void
note_one(struct config_generic *conf, void *arg)
{
	if (!(conf->flags & GUC_NO_RESET_ALL))
		*(bool *) arg = true;
}

/* After most tasks there is nothing to be reset, which saves a RESET ALL. */
bool
sup_settings_changed(void)
{
	bool		changed = false;

	sup_foreach_set_setting(SUP_SOURCE(PGC_S_SESSION), note_one, &changed);
	return changed;
}

/*
 * The time has begun to run with the transaction; what may take interrupts on the way, as
 * a message that goes to the log, must not find that it is over.
 */
void
sup_begin_own(void)
{
	HOLD_INTERRUPTS();
	StartTransactionCommand();
	sup_injection_point("supervisor-begun");
	XactIsoLevel = XACT_READ_COMMITTED;
	XactReadOnly = XactDeferrable = false;
	sup_stop_transaction_timeout();
	RESUME_INTERRUPTS();
}
