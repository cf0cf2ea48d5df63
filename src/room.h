/*-------------------------------------------------------------------------
 *
 * room.h
 *	  A session waits for room for a task that it launches.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SUP_ROOM_H
#define SUP_ROOM_H

#include "submit.h"

/*
 * Submit one packed command that is launched.  If there is no room, wait until
 * others have ended, or raise an error: 53400 or 53200 if none makes room by its
 * end, 57014 at the deadline of the submission.
 */
extern void sup_task_launch(const SupSubmission *submission, const StringInfoData *input, SupTaskRef *ref);

#endif							/* SUP_ROOM_H */
