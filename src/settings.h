/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  What a session has SET, on its way to a worker; and the own settings of
 *	  declared workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_SETTINGS_H
#define SUP_SETTINGS_H

#include "lib/stringinfo.h"

/*
 * Append the settings that this session has SET and hands on: name and
 * value, zero-terminated, and the role that set it.  Returns how many.
 */
extern int	sup_settings_collect(StringInfo buf);

/*
 * Apply 'n' of them; in a transaction.  Those that the current role, or the
 * role that set them, may not set are left out without an error; so are
 * those whose values are not valid here.
 */
extern void sup_settings_apply(const char *data, int n);

/*
 * The own settings of a declared worker, "name=value": check whether that role
 * may have them, or with 'apply' give them to this session, whose current role
 * that is, so that RESET leads back to them.  Raises what SET would raise, and
 * 22023 for what belongs to a transaction or says who one is.  In a transaction.
 */
extern void sup_settings_own(char *const *settings, int n, Oid role, bool apply);

/* Has this session SET anything that RESET ALL would reset? */
extern bool sup_settings_changed(void);

/*
 * Begin a transaction for what is our affair, and not the role's: it writes, waits for no
 * safe snapshot, and may take its time, whatever the role's defaults for transactions are.
 */
extern void sup_begin_own(void);

#endif							/* SUP_SETTINGS_H */
