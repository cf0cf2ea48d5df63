/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  What a session has SET, on its way to a worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_SETTINGS_H
#define SUP_SETTINGS_H

#include "lib/stringinfo.h"

/* Append name and value, zero-terminated, of all that this session has SET; how many. */
extern int	sup_settings_collect(StringInfo buf);

/* Apply 'n' of them, as far as the role may set them; in a transaction. */
extern void sup_settings_apply(const char *data, int n);

/* Has this session SET anything that RESET ALL would reset? */
extern bool sup_settings_changed(void);

#endif							/* SUP_SETTINGS_H */
